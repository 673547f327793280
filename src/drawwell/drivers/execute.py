"""A source that reads a program's standard output.

In manner "stream", the program keeps running; in "one-shot", it exits and is run again.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any, Final

from drawwell.config.broker_side import SourceSection
from drawwell.config.drivers import ONE_SHOT
from drawwell.drivers.program import Program
from drawwell.drivers.stream import Gone
from drawwell.entropy.blocks import RawBlock
from drawwell.errors import SourceStalled, SourceUnavailable, UsageError
from drawwell.reports import SourceIdentity

NOISE: Final = "as the program delivers it; the program may have processed it"
MOST_BYTES: Final = 1 << 20
"""Limit of the output of a run in manner "one-shot"."""
_ENDED_HINT: Final = (
    'The program must keep running. If it prints bytes and exits, set manner = "one-shot", which repeats '
    "it. Otherwise run the command by hand and read its messages."
)
_FAILED_HINT: Final = "Run the command by hand and read its messages."


class ExecSource:
    """A `NoiseSource` (see ports.py) from a program that keeps running.

    Args:
        name: The source's name in the configuration.
        argv: The program and its arguments.
        stall_s: The source counts as gone after this time without a sample.
    """

    def __init__(self, name: str, argv: Sequence[str], *, stall_s: float = 5.0) -> None:
        self._argv = tuple(argv)
        self._stall_s = stall_s
        command = hashlib.sha256("\0".join(self._argv).encode()).hexdigest()[:16]
        self._identity = SourceIdentity(name, "exec", self._argv[0], f"command {command}", noise=NOISE)
        self._program: Program | None = None
        self._output_bytes = 0

    @property
    def identity(self) -> SourceIdentity:
        return self._identity

    async def open(self) -> None:
        """Start the program.

        Raises:
            SourceUnavailable: the program cannot be started.
        """
        await self.aclose()
        self._output_bytes = 0
        self._program = await Program.start(self._argv)

    async def read(self, max_bytes: int) -> RawBlock:
        """Return 1 to `max_bytes` fresh samples.

        Raises:
            SourceUnavailable: the program was silent for `stall_s`, or exited; the rest of its
                output is then discarded.
        """
        data = await self._read(max_bytes)
        if data is None:
            raise await self._silence(_ENDED_HINT)
        return RawBlock(data)

    async def command(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002 - the port's
        """Refuse every verb.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"{self._argv[0]} has no verb {verb!r}", hint="Only a OneRNG takes commands.")

    async def aclose(self) -> None:
        """Stop the program."""
        program, self._program = self._program, None
        if program is not None:
            await program.aclose()

    async def _read(self, max_bytes: int) -> bytes | None:
        """Read from the program; return None if it exited or was silent."""
        if self._program is None:
            raise SourceUnavailable(f"{self._argv[0]} is not running", hint="Run 'drawwell doctor'.")
        try:
            data = await self._program.output.read(max_bytes, self._stall_s)
        except Gone as gone:
            self._output_bytes += gone.left_bytes
            return None
        self._output_bytes += len(data)
        return data or None

    async def _silence(self, hint: str) -> SourceUnavailable:
        """Explain why no sample arrived: the program exited or stalled."""
        program = self._program
        status = await program.ended() if program else None
        if program is None or status is None:
            return SourceStalled(
                f"no sample from {self._argv[0]} within {self._stall_s:g} s",
                hint="Check that the program's device works.",
            )
        return SourceUnavailable(program.describe_end(status, self._output_bytes), hint=hint)


class OneShotSource(ExecSource):
    """A `NoiseSource` from a program that is run repeatedly.

    Args:
        every_s: Minimum time between two starts.
    """

    def __init__(self, name: str, argv: Sequence[str], *, stall_s: float = 5.0, every_s: float = 1.0) -> None:
        super().__init__(name, argv, stall_s=stall_s)
        self._every_s = every_s
        self._next_at = 0.0
        self._left = b""

    async def open(self) -> None:
        """Drop the output of an earlier run; `read` starts the program."""
        await self.aclose()
        self._left = b""

    async def read(self, max_bytes: int) -> RawBlock:
        """Return 1 to `max_bytes` fresh samples of the previous or a new run.

        Raises:
            SourceUnavailable: the program cannot be started, failed, printed nothing or too
                much, or was silent for `stall_s`.
        """
        if not self._left:
            self._left = await self._run()
        data, self._left = self._left[:max_bytes], self._left[max_bytes:]
        return RawBlock(data)

    async def _run(self) -> bytes:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._next_at - loop.time())
        self._next_at = loop.time() + self._every_s
        await super().open()
        try:
            return await self._output()
        finally:
            await self.aclose()

    async def _output(self) -> bytes:
        """Read to the end of a run; same errors as `read`."""
        program, data = self._program, bytearray()
        assert program is not None  # noqa: S101 - `_run` started it
        while True:
            try:
                piece = await program.output.read_to_end(MOST_BYTES, self._stall_s)
            except Gone:
                break
            data += piece
            if not piece or len(data) > MOST_BYTES:
                break
        self._output_bytes = len(data)
        if len(data) > MOST_BYTES:
            raise SourceUnavailable(
                f"{self._argv[0]} printed more than {MOST_BYTES:,} bytes",
                hint='Pass it an argument that requests fewer bytes, or set manner = "stream".',
            )
        status = await program.ended()
        if status != 0 or not data:
            raise await self._silence(_FAILED_HINT)
        return bytes(data)


def make(section: SourceSection) -> ExecSource:
    if section.manner == ONE_SHOT:
        return OneShotSource(section.name, section.command, stall_s=section.stall, every_s=section.every)
    return ExecSource(section.name, section.command, stall_s=section.stall)
