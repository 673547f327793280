"""A recorded file played back as if it were a noise source, for tests and evaluation only."""

import asyncio
import os
import stat
from dataclasses import replace
from typing import Any, Final

from drawwell.config.broker_side import SourceSection
from drawwell.drivers.discovery import numbers_of
from drawwell.entropy.blocks import RawBlock
from drawwell.errors import SourceRejected, SourceUnavailable, UsageError
from drawwell.reports import SourceIdentity

NOISE: Final = "not a noise source"


class ReplaySource:
    """A `NoiseSource` (see ports.py). It goes on where it was after every reopening: no byte twice, unless looped.

    Args:
        name: Its name in the configuration.
        path: The file.
        loop: Begin again at its end.
    """

    def __init__(self, name: str, path: str, *, loop: bool = False) -> None:
        self._path = path
        self._loop = loop
        self._fd = -1
        self._offset = 0
        self._identity = SourceIdentity(name=name, kind="replay", path=path, simulated=True, noise=NOISE)

    @property
    def identity(self) -> SourceIdentity:
        """Who it is: nobody's noise."""
        return self._identity

    async def open(self) -> None:
        """Open the file.

        Raises:
            SourceUnavailable: not there, not permitted, or played to its end.
            SourceRejected: not a file.
        """
        await self.aclose()
        try:
            self._fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise SourceUnavailable(
                f"cannot open {self._path}: {error.strerror}", hint="Name a file that you may read."
            ) from error
        status = os.fstat(self._fd)
        self._identity = replace(self._identity, stable_name=numbers_of(status))
        if not stat.S_ISREG(status.st_mode):
            await self.aclose()
            raise SourceRejected(
                f"{self._path} is not a file", hint='For a device or a FIFO set driver = "chardev".'
            )
        if not status.st_size or (self._offset >= status.st_size and not self._loop):
            await self.aclose()
            raise self._ended()

    async def read(self, max_bytes: int) -> RawBlock:
        """Return the next 1 to `max_bytes` bytes of the file.

        Raises:
            SourceUnavailable: at its end.
        """
        data = self._next(max_bytes)
        if not data and self._loop:
            self._offset = 0
            data = self._next(max_bytes)
        if not data:
            raise self._ended()
        self._offset += len(data)
        await asyncio.sleep(0)  # a file is always ready: leave the loop to others
        return RawBlock(data)

    async def command(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002 - the port's
        """Refuse: such a source has no verbs.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"{self._path} has no verb {verb!r}", hint="Only a OneRNG takes commands.")

    async def aclose(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _next(self, max_bytes: int) -> bytes:
        try:
            return os.pread(self._fd, max_bytes, self._offset)
        except OSError as error:
            raise SourceUnavailable(
                f"cannot read {self._path}: {error.strerror}", hint="See whether its disk works."
            ) from error

    def _ended(self) -> SourceUnavailable:
        return SourceUnavailable(
            f"{self._path} is played to its end", hint="Set loop = true, or record a longer one."
        )


def make(section: SourceSection) -> ReplaySource:
    """Make the driver of a [[source]]."""
    return ReplaySource(section.name, section.path, loop=section.loop)
