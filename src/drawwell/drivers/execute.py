"""A program's standard output as a noise source, for devices that come with a reader of their own."""

import asyncio
import hashlib
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from drawwell.config.broker_side import SourceSection
from drawwell.drivers.stream import Gone, PolledStream
from drawwell.entropy.blocks import RawBlock
from drawwell.errors import SourceStalled, SourceUnavailable, UsageError
from drawwell.reports import SourceIdentity

NOISE: Final = "as the program delivers it; what that did to it is not known"
_WORDS_BYTES: Final = 400
"""How much of what it says on standard error is kept for our own message."""
_EXIT_LIMIT_S: Final = 1.0


class ExecSource:
    """A `NoiseSource` (see ports.py). The program runs without a shell, in a session of its own.

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
        self._process: asyncio.subprocess.Process | None = None
        self._output: PolledStream | None = None
        self._errors = -1
        self._words = b""

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
        output, its_output = os.pipe()
        self._output = PolledStream(output)
        self._errors, its_errors = os.pipe()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=its_output,
                stderr=its_errors,
                start_new_session=True,
            )
        except OSError as error:
            await self.aclose()
            raise SourceUnavailable(
                f"cannot start {self._argv[0]}: {error.strerror}",
                hint="Install it, or give its whole path in command.",
            ) from error
        finally:
            os.close(its_output)
            os.close(its_errors)
        os.set_blocking(self._errors, False)
        asyncio.get_running_loop().add_reader(self._errors, self._listen)

    async def read(self, max_bytes: int) -> RawBlock:
        """Return 1 to `max_bytes` fresh samples.

        Raises:
            SourceUnavailable: it ended, or was silent for `stall_s`.
        """
        if self._output is None:
            raise SourceUnavailable(f"{self._argv[0]} does not run", hint="Type 'drawwell doctor'.")
        try:
            data = await self._output.read(max_bytes, self._stall_s)
        except Gone:
            data = b""
        if not data:
            raise await self._silence()
        return RawBlock(data)

    async def command(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002 - the port's
        """Refuse: such a source has no verbs.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"{self._argv[0]} has no verb {verb!r}", hint="Only a OneRNG takes commands.")

    async def aclose(self) -> None:
        """End the program, kindly and then not."""
        if self._output is not None:
            self._output.close()
            self._output = None
        if self._process is not None and self._process.returncode is None:
            self._signal(signal.SIGTERM)
            try:
                await self._exited()
            finally:
                if self._process.returncode is None:
                    self._signal(signal.SIGKILL)
                    await self._process.wait()
        self._process = None
        if self._errors >= 0:
            asyncio.get_running_loop().remove_reader(self._errors)
            os.close(self._errors)
            self._errors = -1

    async def _silence(self) -> SourceUnavailable:
        """Say why no sample came: it ended, with this status and these last words, or it is silent."""
        program = self._argv[0]
        status = await self._exited() if self._process else None
        if status is None:
            return SourceStalled(
                f"no sample from {program} within {self._stall_s:g} s", hint="See whether its device works."
            )
        self._listen()
        how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        return SourceUnavailable(
            f"{program} {how}{self._last_words()}", hint="Run the command by hand and see what it says."
        )

    async def _exited(self) -> int | None:
        """Wait a moment for its end; None if it goes on."""
        assert self._process is not None  # noqa: S101 - asked only of a program that was started
        with suppress(TimeoutError):
            async with asyncio.timeout(_EXIT_LIMIT_S):
                return await self._process.wait()
        return None

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None  # noqa: S101 - as above
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _listen(self) -> None:
        """Take what is there from standard error and keep the end of it."""
        with suppress(BlockingIOError):
            while words := os.read(self._errors, 65536):
                self._words = (self._words + words)[-_WORDS_BYTES:]
            asyncio.get_running_loop().remove_reader(self._errors)

    def _last_words(self) -> str:
        lines = "".join(
            letter
            for letter in self._words.decode("ascii", "ignore")
            if letter.isprintable() or letter == "\n"
        ).split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f": {last}" if last else ""


def make(section: SourceSection) -> ExecSource:
    """Make the driver of a [[source]]."""
    return ExecSource(section.name, section.command, stall_s=section.stall)
