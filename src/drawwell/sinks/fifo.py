"""A FIFO that never reaches EOF, with draws only while it has a reader."""

import asyncio
import fcntl
import os
import stat
from contextlib import suppress
from typing import Final

from drawwell.entropy.blocks import Grant
from drawwell.errors import SinkRefused
from drawwell.reports import SinkReport
from drawwell.sinks.descriptor import abandoned, refusing, writable, write_all

_NEW_MODE: Final = 0o600
_READER_POLL_S: Final = 0.1
"""Interval of checks for a reader: the kernel reports only when a reader closes."""


class FifoSink:
    """A `Sink` (see ports.py); a missing FIFO is created for its owner only.

    Args:
        path: The FIFO.
        chunk_bytes: Size of a draw; at most about this many unread bytes are in the FIFO.

    Raises:
        SinkRefused: `path` is not a FIFO, or the FIFO cannot be opened.
    """

    def __init__(self, path: str, chunk_bytes: int = 4096) -> None:
        self._path = path
        self._chunk_bytes = chunk_bytes
        self._deliveries = self._delivered_bytes = 0
        self._fd = self._open()

    @property
    def report(self) -> SinkReport:
        return SinkReport(self._path, self._deliveries, self._delivered_bytes, 0, 0, "")

    def wanted_bytes(self) -> int:
        return self._chunk_bytes

    async def wait_wanted(self) -> None:
        """Wait for a reader and for room in the pipe."""
        while abandoned(self._fd):  # noqa: ASYNC110 - the kernel does not announce readers
            await asyncio.sleep(_READER_POLL_S)
        await writable(self._fd)

    async def deliver(self, grant: Grant) -> SinkReport:
        """Write the grant as it is read; any bytes that remain unread are lost."""
        with suppress(BrokenPipeError):
            await write_all(self._fd, grant.data)
            self._delivered_bytes += len(grant)
        self._deliveries += 1
        return self.report

    async def aclose(self) -> None:
        """Close the file descriptor; the FIFO remains."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> int:
        """Open the write end; this briefly needs a reader of our own (fifo(7))."""
        with refusing(f"cannot open {self._path}"):
            with suppress(FileExistsError):
                os.mkfifo(self._path, _NEW_MODE)
            both = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                if not stat.S_ISFIFO(os.fstat(both).st_mode):
                    raise SinkRefused(f"{self._path} is not a FIFO", hint="Set an unused path.")
                fd = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            finally:
                os.close(both)
        with suppress(OSError):  # a small pipe only limits the bytes in flight
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, self._chunk_bytes)
        return fd
