"""``drawwell check``: the FIPS 140-2 block tests, compatible with rngtest."""

import argparse
import copy
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Final

from drawwell.assess.fips140.blocks import BlockTester
from drawwell.assess.fips140.verdict import BLOCK_BYTES, PASS, WORD_BYTES
from drawwell.assess.text import kind_of_text
from drawwell.cli.check.input import FileInput, Input, SourceInput
from drawwell.cli.check.summary import PREFIX, Summary
from drawwell.cli.output import Output
from drawwell.errors import UsageError
from drawwell.units import format_size

# rngtest(1), "exit status"; 1 also means "no complete block". Status 12 is in check/input.py.
EXIT_FAILED: Final = 1
EXIT_PARAMETERS: Final = 10
EXIT_IO: Final = 11

LIMITS: Final = (
    "These tests quickly detect a broken source but cannot prove that a source is good: any seeded generator"
    " passes them, and so does a loop of 4096 bytes."
)
READ_BLOCKS: Final = 100
"""The size of one read, small enough for the CPU cache."""
SOURCE_BLOCKS: Final = 100
"""The default number of blocks from ``source:NAME``, which never ends."""
PROGRESS_S: Final = 0.5


class BadParameter(UsageError):
    """A usage error with rngtest's exit code."""

    exit_code = EXIT_PARAMETERS


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    """Add ``check``. Its -c is rngtest's, so the configuration needs --config."""
    parser = nouns.add_parser(
        "check",
        parents=[copy.deepcopy(common)],
        conflict_handler="resolve",
        allow_abbrev=False,
        help="test bytes with the FIPS 140-2 block tests, as rngtest does",
        description=f"Test blocks of {BLOCK_BYTES} bytes with the FIPS 140-2 tests, as rngtest does. {LIMITS}",
        epilog="The summary goes to standard error. Exit codes: 0 all blocks passed; 1 a block failed, or the input"
        " had no complete block; 10 invalid parameters; 11 input or output error; 12 cannot open the input.",
    )
    parser.exit_usage = EXIT_PARAMETERS
    parser.add_argument(
        "input", nargs="?", default="-", metavar="FILE|-|source:NAME",
        help="a file, a device, standard input (default), or conditioned bytes from the running source NAME"
        f" ({SOURCE_BLOCKS} blocks by default). Raw noise is not accepted because it is expected to fail these tests",
    )  # fmt: skip
    parser.add_argument("-p", "--pipe", action="store_true", help="copy passing blocks to standard output")
    for flags, metavar, what in (
        (("-c", "--blockcount"), "N", "stop after N blocks"),
        (("-b", "--blockstats"), "N", "print the summary every N blocks"),
        (("-t", "--timedstats"), "S", "print the summary every S seconds"),
    ):
        parser.add_argument(*flags, type=count, default=0, metavar=metavar, help=what)
    parser.set_defaults(run=_run)


def count(text: str) -> int:
    """Parse a non-negative number; zero means "never"."""
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


def _run(args: argparse.Namespace, out: Output) -> int:
    if args.pipe and args.json:
        raise BadParameter("--pipe and --json both write to standard output", hint="Use only one of them.")
    if args.pipe and sys.stdout.isatty():
        raise BadParameter(
            "standard output is a terminal", hint="Redirect the blocks to a file or a program."
        )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with closing(_open(args, out)) as source:
        check = Check(args, source, out)
        code = check.run()
    if out.as_json:
        out.result(check.summary.document() | {"exit_code": code, "limits": LIMITS}, "")
    return code


def _open(args: argparse.Namespace, out: Output) -> Input:
    kind, colon, name = args.input.partition(":")
    if kind != "source" or not colon:
        return FileInput(args.input)
    args.blockcount = args.blockcount or SOURCE_BLOCKS
    source = SourceInput(name, args)
    out.say(f"testing {source.title}, because raw noise is expected to fail these tests")
    return source


class Check:
    """A run of the tests on one input."""

    def __init__(self, args: argparse.Namespace, source: Input, out: Output) -> None:
        self.summary = Summary(source.title, pipe=args.pipe, started=time.perf_counter())
        self._args = args
        self._input = source
        self._out = out
        self._io_failed = False
        self._blocks_shown = 0
        self._shown_at = self._drawn_at = time.perf_counter()

    def run(self) -> int:
        """Test until the end, the count or an interrupt; return the exit code."""
        self._say("starting FIPS tests...")
        try:
            # rngtest drops four bytes before it copies blocks
            bootstrap = self._exactly(2 * WORD_BYTES if self._args.pipe else WORD_BYTES)
            if not bootstrap:
                return EXIT_FAILED
            self._judge(BlockTester(bootstrap[-WORD_BYTES:]))
        except KeyboardInterrupt:
            pass  # print the summary so far
        self._show()
        self._explain()
        if self._io_failed:
            return EXIT_IO
        tally = self.summary.tally
        return EXIT_FAILED if tally.failures or not tally.successes else 0

    def _expected_bytes(self) -> int:
        """Return the expected input size, or 0 if it is unknown."""
        known = (self._args.blockcount * BLOCK_BYTES, self._input.size_bytes)
        return min(filter(None, known), default=0)

    def _judge(self, tester: BlockTester) -> None:
        expected_bytes = self._expected_bytes()
        for blocks in self._blocks():
            self.summary.text = self.summary.text or kind_of_text(blocks)
            tester.prepare(max(expected_bytes, self.summary.received_bytes))
            start = time.perf_counter()
            verdicts = tester.judge_many(blocks)
            self.summary.tests.add(time.perf_counter() - start, len(verdicts))
            if self._args.pipe:
                if not self._sift(blocks, verdicts):
                    return
            else:
                self.summary.add(verdicts)
            self._keep_informed()

    def _sift(self, blocks: memoryview, verdicts: bytes) -> bool:
        """Count and copy block by block: after an error, counts match rngtest's."""
        for at, verdict in enumerate(verdicts):
            self.summary.add(bytes([verdict]))
            if verdict == PASS and not self._send(blocks[at * BLOCK_BYTES : (at + 1) * BLOCK_BYTES]):
                return False
        return True

    def _blocks(self) -> Iterator[memoryview]:
        """Yield complete blocks as they arrive; stop reading at each summary."""
        pending = b""
        while wanted := self._wanted_blocks():
            start = time.perf_counter()
            data = self._read(wanted * BLOCK_BYTES - len(pending))
            if not data:
                self.summary.received_bytes += len(pending)
                return
            pending += data
            whole = len(pending) // BLOCK_BYTES
            self.summary.input.add(time.perf_counter() - start, whole)
            if whole:
                yield memoryview(pending)[: whole * BLOCK_BYTES]
            pending = pending[whole * BLOCK_BYTES :]

    def _wanted_blocks(self) -> int:
        """Return the number of blocks to read next, or 0 at the end."""
        blocks, wanted = self.summary.tally.blocks, READ_BLOCKS
        if self._args.blockcount:
            wanted = min(wanted, self._args.blockcount - blocks)
        if self._args.blockstats:
            wanted = min(wanted, self._blocks_shown + self._args.blockstats - blocks)
        return wanted

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self._read(size - len(data))
            if not more:
                return b""
            self.summary.received_bytes += len(more)
            data += more
        return data

    def _read(self, max_bytes: int) -> bytes:
        """Read the available bytes; return b"" at the end or after an error."""
        try:
            data = self._input.read(max_bytes)
        except OSError as error:
            self._fail("error reading input", error)
            return b""
        if not data:
            self._say("entropy source exhausted!")
        return data

    def _send(self, block: memoryview) -> bool:
        start = time.perf_counter()
        try:
            self._out.write_bytes(bytes(block))
        except BrokenPipeError:
            raise  # `main` exits quietly, like any filter
        except OSError as error:
            self._fail("error writing to output", error)
            return False
        self.summary.output.add(time.perf_counter() - start)
        self.summary.sent_bytes += len(block)
        return True

    def _keep_informed(self) -> None:
        blocks, now = self.summary.tally.blocks, time.perf_counter()
        every, seconds = self._args.blockstats, self._args.timedstats
        if blocks == self._args.blockcount:
            return  # the final summary follows immediately
        if (every and blocks - self._blocks_shown >= every) or (seconds and now - self._shown_at > seconds):
            self._show()
            self._blocks_shown, self._shown_at = blocks, now
        if now - self._drawn_at > PROGRESS_S:
            self._drawn_at = now
            self._out.progress(self._progress(now))

    def _progress(self, now: float) -> str:
        received, size = self.summary.received_bytes, self._input.size_bytes
        speed = received / (now - self.summary.started)
        part = f" of {format_size(size)} ({received / size:.0%})" if size else ""
        return (
            f"check: {format_size(received)}{part}, {format_size(speed)}/s,"
            f" {self.summary.tally.failures} of {self.summary.tally.blocks} blocks failed"
        )

    def _show(self) -> None:
        self._out.clear_progress()
        if not self._out.quiet and not self._out.as_json:
            print(*self.summary.lines(time.perf_counter()), sep="\n", file=sys.stderr, flush=True)

    def _explain(self) -> None:
        """Print what rngtest omits: the kind of input and the expected failures."""
        if self._out.as_json:
            return  # the JSON document contains both
        if self.summary.text:
            self._out.say(f"{self.summary.title} is text ({self.summary.text}); it was tested as bytes")
        if self.summary.tally.blocks:
            self._out.say(self.summary.chance_text())

    def _say(self, text: str) -> None:
        if not (self._args.pipe or self._out.quiet or self._out.as_json):
            self._out.clear_progress()
            print(f"{PREFIX}{text}", file=sys.stderr, flush=True)

    def _fail(self, what: str, error: OSError) -> None:
        self._io_failed = True
        self._out.clear_progress()
        print(f"{PREFIX}{what}: {error.strerror}", file=sys.stderr, flush=True)
