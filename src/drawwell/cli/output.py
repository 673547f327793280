"""Output of results, messages and errors.

- Results go to standard output, messages to standard error with the prefix ``drawwell:``.
- With ``--json``, results and errors are JSON documents.
- Raw bytes are written to a terminal only on request (``--raw``).
- Control characters in external text, such as a guest's name, are replaced.
- Progress is one line on a terminal, erased afterwards. style.py handles width and colour.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from drawwell.cli.style import PLAIN, SGR, Style
from drawwell.errors import ConfigError, DrawwellError, Refused, UsageError


class Output:
    """The output of a command: results, messages, progress and errors."""

    def __init__(
        self, *, as_json: bool = False, quiet: bool = False, style: Style = PLAIN, live_style: Style = PLAIN
    ) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.style = style
        self.live_style = live_style
        self._progress_shown = False

    @property
    def live(self) -> bool:
        """Whether standard error is a terminal that can show progress."""
        return sys.stderr.isatty() and not self.quiet and os.environ.get("TERM") != "dumb"

    def result(self, document: Mapping[str, Any] | Sequence[Any], text: str, *, redraw: bool = False) -> None:
        """Print `text`, or `document` with ``--json``; `redraw` clears the screen."""
        import json

        self.clear_progress()
        clear = "\x1b[H\x1b[2J" if redraw and os.isatty(1) and not self.as_json else ""
        shown = printable(text, colour=self.style.colour)
        print(clear + (json.dumps(document, indent=2) if self.as_json else shown), flush=True)

    def say(self, message: str) -> None:
        """Print a message (not a result) to standard error."""
        if not self.quiet:
            self.clear_progress()
            text = printable(message)
            if "\n" not in text:  # text with several lines has its own layout
                text = self.live_style.wrap(text, "  ", len(_PREFIX))
            print(_PREFIX + text, file=sys.stderr, flush=True)

    def progress(self, message: str) -> None:
        """Redraw the progress line on a terminal, truncated to its width."""
        if self.live:
            shown = printable(message)[: (self.live_style.width or _USUAL_WIDTH) - 1]
            print(f"\r\x1b[K{shown}", end="", file=sys.stderr, flush=True)
            self._progress_shown = True

    @contextmanager
    def working(self, doing: str | Callable[[], str]) -> Iterator[None]:
        """Show a progress line while the block runs, starting after one second."""
        if not self.live:
            yield
            return
        import threading

        done = threading.Event()

        def show() -> None:
            begun = time.monotonic()
            while not done.wait(1):
                text = doing if isinstance(doing, str) else doing()
                self.progress(f"{text} … {time.monotonic() - begun:.0f} s")

        ticker = threading.Thread(target=show, daemon=True)
        ticker.start()
        try:
            yield
        finally:
            done.set()
            ticker.join()
            self.clear_progress()

    def clear_progress(self) -> None:
        """Erase the progress line."""
        if self._progress_shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._progress_shown = False

    def error(self, error: DrawwellError) -> int:
        """Print an error with its hint and return its exit code."""
        self.clear_progress()
        if self.as_json:
            import json

            print(json.dumps(error_document(error)), file=sys.stderr)
            return error.exit_code
        print(f"drawwell: {printable(str(error))}", file=sys.stderr)
        for fault in error.faults if isinstance(error, ConfigError) else ():
            print(f"drawwell:   {printable(fault)}", file=sys.stderr)
        if isinstance(error, Refused) and error.retry_after_s is not None:
            from drawwell.units import format_duration

            about = "about " if error.estimate else ""
            print(f"drawwell: retry after {about}{format_duration(error.retry_after_s)}", file=sys.stderr)
        if error.hint:
            print(f"drawwell: hint: {printable(error.hint)}", file=sys.stderr)
        return error.exit_code

    def write_bytes(self, data: bytes, *, force: bool = False) -> None:
        """Write raw bytes to standard output.

        Raises:
            UsageError: standard output is a terminal and `force` is not set.
        """
        if sys.stdout.isatty() and not force:
            raise UsageError(
                "standard output is a terminal",
                hint="Redirect the output to a file, or use --hex or --base64.",
            )
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def same_configuration(args: argparse.Namespace, command: str) -> str:
    """Return a command; if it is drawwell's, add this command's ``-c``."""
    if not args.config or args.config == os.environ.get("DRAWWELL_CONFIG"):
        return command
    import shlex

    program, _, rest = command.partition(" ")
    return f"drawwell -c {shlex.quote(args.config)} {rest}" if program == "drawwell" else command


def printable(text: str, *, colour: bool = False) -> str:
    """Replace control, bidirectional and surrogate characters with "?".

    With `colour`, keep the colour sequences from style.py.
    """
    if not colour:
        return text.translate(_OBEYED)
    plain = [piece.translate(_OBEYED) for piece in SGR.split(text)]
    return "".join(sum(zip(plain, [*SGR.findall(text), ""], strict=True), ()))


_USUAL_WIDTH: Final = 80
_PREFIX: Final = "drawwell: "
_OBEYED: Final = dict.fromkeys(
    (*range(9), *range(11, 32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A),
     *range(0xD800, 0xE000)), "?",
)  # fmt: skip
"""The replaced characters: C0 except tab and newline, DEL, C1, bidirectional, surrogates."""


def error_document(error: DrawwellError) -> dict[str, Any]:
    """Return an error as JSON: message, kind, hint and retry time."""
    document: dict[str, Any] = {
        "error": str(error),
        "kind": type(error).__name__,
        "hint": error.hint,
        "exit_code": error.exit_code,
    }
    if isinstance(error, Refused):
        document |= {"retry_after_s": error.retry_after_s, "estimate": error.estimate}
    if isinstance(error, ConfigError):
        document["faults"] = list(error.faults)
    return document
