"""A FIFO for programs that read one: they never see its end, and nothing is drawn while nobody reads."""

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
"""How often to look for a reader: the kernel tells a writer that they all went, not that one came."""


class FifoSink:
    """A `Sink` (see ports.py). Makes the FIFO, for its owner alone, if it is not there.

    Args:
        path: The FIFO.
        chunk_bytes: How much is drawn at a time; about that much may wait in the FIFO for its reader.

    Raises:
        SinkRefused: something else is at `path`, or it may not be opened.
    """

    def __init__(self, path: str, chunk_bytes: int = 4096) -> None:
        self._path = path
        self._chunk_bytes = chunk_bytes
        self._deliveries = self._delivered_bytes = 0
        self._fd = self._open()

    @property
    def report(self) -> SinkReport:
        """What it got so far."""
        return SinkReport(self._path, self._deliveries, self._delivered_bytes, 0, 0, "")

    def wanted_bytes(self) -> int:
        """One chunk."""
        return self._chunk_bytes

    async def wait_wanted(self) -> None:
        """Return when somebody reads and there is room."""
        while abandoned(self._fd):  # noqa: ASYNC110 - nothing announces a reader
            await asyncio.sleep(_READER_POLL_S)
        await writable(self._fd)

    async def deliver(self, grant: Grant) -> SinkReport:
        """Write the grant as its reader takes it. What a reader leaves behind as it goes is lost."""
        with suppress(BrokenPipeError):
            await write_all(self._fd, grant.data)
            self._delivered_bytes += len(grant)
        self._deliveries += 1
        return self.report

    async def aclose(self) -> None:
        """Let go of it; the FIFO stays."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> int:
        """Hold the writing end before there is a reader; that takes one for a moment, ourselves (fifo(7))."""
        with refusing(f"cannot open {self._path}"):
            with suppress(FileExistsError):
                os.mkfifo(self._path, _NEW_MODE)
            both = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                if not stat.S_ISFIFO(os.fstat(both).st_mode):
                    raise SinkRefused(f"{self._path} is not a FIFO", hint="Name a path that is free.")
                fd = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            finally:
                os.close(both)
        with suppress(OSError):  # it is smaller only to keep little in flight
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, self._chunk_bytes)
        return fd
