"""A file to append to, for tests and machines where no other sink works."""

import asyncio
import os
from typing import Final

from drawwell.entropy.blocks import Grant
from drawwell.reports import SinkReport
from drawwell.sinks.descriptor import refusing, write_all

_NEW_MODE: Final = 0o600


class FileSink:
    """A `Sink` (see ports.py) that appends to a file.

    A missing file is created with access for its owner only.

    Args:
        path: The file.
        chunk_bytes: Size of a draw.
        total_bytes: Limit of the appended bytes; None for no limit.

    Raises:
        SinkRefused: the file cannot be opened.
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
        return SinkReport(self._path, self._deliveries, self._delivered_bytes, 0, 0, "")

    @property
    def full(self) -> bool:
        """Whether the limit has been reached."""
        return self.wanted_bytes() == 0

    def wanted_bytes(self) -> int:
        if self._total_bytes is None:
            return self._chunk_bytes
        return min(self._chunk_bytes, self._total_bytes - self._delivered_bytes)

    async def wait_wanted(self) -> None:
        """Return at once until the limit is reached; then wait forever."""
        if self.full:
            await asyncio.get_running_loop().create_future()

    async def deliver(self, grant: Grant) -> SinkReport:
        """Append the grant.

        Raises:
            SinkRefused: the disk is full or was removed.
        """
        with refusing(f"cannot write to {self._path}"):
            await write_all(self._fd, grant.data)
        self._deliveries += 1
        self._delivered_bytes += len(grant)
        return self.report

    async def aclose(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
