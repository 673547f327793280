"""A program's standard output as a noise source, for devices that come with a reader of their own.

It is a stream, or of one shot: a program that prints some bytes and ends is run again and again.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any, Final

from drawwell.config.broker_side import SourceSection
from drawwell.config.devices import ONE_SHOT
from drawwell.drivers.program import Program
from drawwell.drivers.stream import Gone
from drawwell.entropy.blocks import RawBlock
from drawwell.errors import SourceStalled, SourceUnavailable, UsageError
from drawwell.reports import SourceIdentity

NOISE: Final = "as the program delivers it; what that did to it is not known"
MOST_BYTES: Final = 1 << 20
"""What a run of a one-shot program may print."""
_ENDED_HINT: Final = (
    'It must go on and on. For a program that prints some bytes and ends, set manner = "one-shot": '
    "it is run again and again. Else run the command by hand and see what it says."
)
_FAILED_HINT: Final = "Run the command by hand and see what it says."


class ExecSource:
    """A `NoiseSource` (see ports.py): a program that goes on and on.

    Args:
        name: Its name in the configuration.
        argv: The program and its arguments.
        stall_s: How long no sample may come before it counts as gone.
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
        """Who it is."""
        return self._identity

    async def open(self) -> None:
        """Start the program.

        Raises:
            SourceUnavailable: it cannot be started.
        """
        await self.aclose()
        self._output_bytes = 0
        self._program = await Program.start(self._argv)

    async def read(self, max_bytes: int) -> RawBlock:
        """Return 1 to `max_bytes` fresh samples.

        Raises:
            SourceUnavailable: it ended, or was silent for `stall_s`. What a program that ended left in
                the pipe is dropped.
        """
        data = await self._read(max_bytes)
        if data is None:
            raise await self._silence(_ENDED_HINT)
        return RawBlock(data)

    async def command(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002 - the port's
        """Refuse: such a source has no verbs.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"{self._argv[0]} has no verb {verb!r}", hint="Only a OneRNG takes commands.")

    async def aclose(self) -> None:
        """End the program."""
        program, self._program = self._program, None
        if program is not None:
            await program.aclose()

    async def _read(self, max_bytes: int) -> bytes | None:
        """Read from the program; None where it ended or was silent."""
        if self._program is None:
            raise SourceUnavailable(f"{self._argv[0]} does not run", hint="Type 'drawwell doctor'.")
        try:
            data = await self._program.output.read(max_bytes, self._stall_s)
        except Gone as gone:
            self._output_bytes += gone.left_bytes
            return None
        self._output_bytes += len(data)
        return data or None

    async def _silence(self, hint: str) -> SourceUnavailable:
        """Say why no sample came: it ended, or it is silent."""
        program = self._program
        status = await program.ended() if program else None
        if program is None or status is None:
            return SourceStalled(
                f"no sample from {self._argv[0]} within {self._stall_s:g} s",
                hint="See whether its device works.",
            )
        return SourceUnavailable(program.describe_end(status, self._output_bytes), hint=hint)


class OneShotSource(ExecSource):
    """A program that prints some bytes and ends, and is run again and again.

    Args:
        every_s: How long from one start to the next, at least.
    """

    def __init__(self, name: str, argv: Sequence[str], *, stall_s: float = 5.0, every_s: float = 1.0) -> None:
        super().__init__(name, argv, stall_s=stall_s)
        self._every_s = every_s
        self._next_at = 0.0
        self._left = b""

    async def open(self) -> None:
        """Forget what an earlier run gave; the program is started by `read`."""
        await self.aclose()
        self._left = b""

    async def read(self, max_bytes: int) -> RawBlock:
        """Return 1 to `max_bytes` fresh samples: what a run printed, or is left of it.

        Raises:
            SourceUnavailable: it cannot be started, failed, printed nothing or too much, or was
                silent for `stall_s`.
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
        """Read to the end of a run; raises as `read`."""
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
                hint='Give it an argument that asks for fewer, or set manner = "stream".',
            )
        status = await program.ended()
        if status != 0 or not data:
            raise await self._silence(_FAILED_HINT)
        return bytes(data)


def make(section: SourceSection) -> ExecSource:
    """Make the driver of a [[source]]."""
    if section.manner == ONE_SHOT:
        return OneShotSource(section.name, section.command, stall_s=section.stall, every_s=section.every)
    return ExecSource(section.name, section.command, stall_s=section.stall)
