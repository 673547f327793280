"""A program, started without a shell, whose standard output is a stream."""

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Self

from drawwell.drivers.stream import PolledStream
from drawwell.errors import SourceUnavailable

_EXIT_LIMIT_S: Final = 1.0


class Program:
    """A running program, made by `start`.

    Only the length of standard error is stored, because some tools print noise there.
    """

    def __init__(self, name: str, process: asyncio.subprocess.Process, output: int, errors: int) -> None:
        self.name = name
        self.output = PolledStream(output)
        self.error_bytes = 0
        self._process = process
        self._errors = errors
        os.set_blocking(errors, False)
        asyncio.get_running_loop().add_reader(errors, self._count_errors)

    @classmethod
    async def start(cls, argv: Sequence[str]) -> Self:
        """Start a program.

        Raises:
            SourceUnavailable: the program cannot be started.
        """
        output, its_output = os.pipe()
        errors, its_errors = os.pipe()
        process = None
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=its_output,
                stderr=its_errors,
                start_new_session=True,
            )
        except OSError as error:
            raise SourceUnavailable(
                f"cannot start {argv[0]}: {error.strerror}",
                hint="Install the program, or set its full path in command.",
            ) from error
        finally:
            os.close(its_output)
            os.close(its_errors)
            if process is None:
                os.close(output)
                os.close(errors)
        return cls(argv[0], process, output, errors)

    async def ended(self) -> int | None:
        """Wait briefly for the exit; return the status, or None while running."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_EXIT_LIMIT_S):
                return await self._process.wait()
        return None

    def describe_end(self, status: int, output_bytes: int) -> str:
        """Describe how the program ended, and after how many bytes."""
        self._count_errors()
        how = f"was killed by signal {-status}" if status < 0 else f"exited with status {status}"
        end = f"{self.name} {how} after {output_bytes:,} bytes"
        return f"{end}, and wrote {self.error_bytes:,} bytes to standard error" if self.error_bytes else end

    async def aclose(self) -> None:
        """Stop the program with SIGTERM, and after a second with SIGKILL."""
        self.output.close()
        if self._process.returncode is None:
            self._signal(signal.SIGTERM)
            try:
                await self.ended()
            finally:
                if self._process.returncode is None:
                    self._signal(signal.SIGKILL)
                    await self._process.wait()
        if self._errors >= 0:
            asyncio.get_running_loop().remove_reader(self._errors)
            os.close(self._errors)
            self._errors = -1

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _count_errors(self) -> None:
        with suppress(BlockingIOError):
            while piece := os.read(self._errors, 65536):
                self.error_bytes += len(piece)
            asyncio.get_running_loop().remove_reader(self._errors)
