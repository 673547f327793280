"""A program started without a shell, with its standard output as a stream."""

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
    """A started program; made by `start`.

    Some tools print noise on their standard error, so nothing of it is kept but its length.
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
        """Start it.

        Raises:
            SourceUnavailable: it cannot be started.
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
                hint="Install it, or give its whole path in command.",
            ) from error
        finally:
            os.close(its_output)
            os.close(its_errors)
            if process is None:
                os.close(output)
                os.close(errors)
        return cls(argv[0], process, output, errors)

    async def ended(self) -> int | None:
        """Wait a moment for its end; return its status, None if it goes on."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_EXIT_LIMIT_S):
                return await self._process.wait()
        return None

    def describe_end(self, status: int, output_bytes: int) -> str:
        """Describe how it ended, and after how many bytes."""
        self._count_errors()
        how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        end = f"{self.name} {how} after {output_bytes:,} bytes"
        return f"{end}, and wrote {self.error_bytes:,} to its standard error" if self.error_bytes else end

    async def aclose(self) -> None:
        """End it: SIGTERM, and SIGKILL if it is there after a second."""
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
