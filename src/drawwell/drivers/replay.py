"""A recorded file used as a noise source, for tests and evaluation."""

import asyncio
import os
import stat
from dataclasses import replace
from typing import Any

from drawwell.config.broker_side import SourceSection
from drawwell.drivers.discovery import numbers_of
from drawwell.entropy.blocks import RawBlock
from drawwell.errors import SourceRejected, SourceUnavailable, UsageError
from drawwell.reports import NOT_NOISE, SourceIdentity


class ReplaySource:
    """A `NoiseSource` (see ports.py) that continues where it was closed.

    Without `loop`, it reads no byte twice.

    Args:
        name: The source's name in the configuration.
        path: The file.
        loop: Restart at the end of the file.
    """

    def __init__(self, name: str, path: str, *, loop: bool = False) -> None:
        self._path = path
        self._loop = loop
        self._fd = -1
        self._offset = 0
        self._identity = SourceIdentity(name=name, kind="replay", path=path, simulated=True, noise=NOT_NOISE)

    @property
    def identity(self) -> SourceIdentity:
        """The source's identity; its `noise` is `NOT_NOISE`."""
        return self._identity

    async def open(self) -> None:
        """Open the file.

        Raises:
            SourceUnavailable: the file is missing, not readable, or at its end.
            SourceRejected: the path is not a file.
        """
        await self.aclose()
        try:
            self._fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise SourceUnavailable(
                f"cannot open {self._path}: {error.strerror}", hint="Set path to a file that you can read."
            ) from error
        status = os.fstat(self._fd)
        self._identity = replace(self._identity, stable_name=numbers_of(status))
        if not stat.S_ISREG(status.st_mode):
            await self.aclose()
            raise SourceRejected(
                f"{self._path} is not a file", hint='For a device or a FIFO, set driver = "chardev".'
            )
        if not status.st_size or (self._offset >= status.st_size and not self._loop):
            await self.aclose()
            raise self._ended()

    async def read(self, max_bytes: int) -> RawBlock:
        """Return the next 1 to `max_bytes` bytes of the file.

        Raises:
            SourceUnavailable: the file is at its end.
        """
        data = self._next(max_bytes)
        if not data and self._loop:
            self._offset = 0
            data = self._next(max_bytes)
        if not data:
            raise self._ended()
        self._offset += len(data)
        await asyncio.sleep(0)  # a file is always ready, so yield to other tasks
        return RawBlock(data)

    async def command(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002 - the port's
        """Refuse every verb.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"{self._path} has no verb {verb!r}", hint="Only a OneRNG takes commands.")

    async def aclose(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _next(self, max_bytes: int) -> bytes:
        try:
            return os.pread(self._fd, max_bytes, self._offset)
        except OSError as error:
            raise SourceUnavailable(
                f"cannot read {self._path}: {error.strerror}", hint="Check the disk."
            ) from error

    def _ended(self) -> SourceUnavailable:
        return SourceUnavailable(
            f"{self._path} has no more bytes", hint="Set loop = true, or record a longer file."
        )


def make(section: SourceSection) -> ReplaySource:
    return ReplaySource(section.name, section.path, loop=section.loop)
