"""A file that is added to, for tests and for machines that are not reached otherwise."""

import asyncio
import os
from typing import Final

from drawwell.entropy.blocks import Grant
from drawwell.reports import SinkReport
from drawwell.sinks.descriptor import refusing, write_all

_NEW_MODE: Final = 0o600


class FileSink:
    """A `Sink` (see ports.py). Makes the file, for its owner alone, if it is not there, and adds to its end.

    Args:
        path: The file.
        chunk_bytes: How much is drawn at a time.
        total_bytes: How much is added in all; None for without end.

    Raises:
        SinkRefused: it may not be opened.
    """

    def __init__(self, path: str, chunk_bytes: int = 4096, total_bytes: int | None = None) -> None:
        self._path = path
        self._chunk_bytes = chunk_bytes
        self._total_bytes = total_bytes
        self._deliveries = self._delivered_bytes = 0
        with refusing(f"cannot open {path}"):
            self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _NEW_MODE)

    @property
    def report(self) -> SinkReport:
        """What it got so far."""
        return SinkReport(self._path, self._deliveries, self._delivered_bytes, 0, 0, "")

    @property
    def full(self) -> bool:
        """Has it got all that it was to get?"""
        return self.wanted_bytes() == 0

    def wanted_bytes(self) -> int:
        """One chunk, or what is left."""
        if self._total_bytes is None:
            return self._chunk_bytes
        return min(self._chunk_bytes, self._total_bytes - self._delivered_bytes)

    async def wait_wanted(self) -> None:
        """Return at once; never, when it is full."""
        if self.full:
            await asyncio.get_running_loop().create_future()

    async def deliver(self, grant: Grant) -> SinkReport:
        """Add the grant.

        Raises:
            SinkRefused: the disk is full or gone.
        """
        with refusing(f"cannot write to {self._path}"):
            await write_all(self._fd, grant.data)
        self._deliveries += 1
        self._delivered_bytes += len(grant)
        return self.report

    async def aclose(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
