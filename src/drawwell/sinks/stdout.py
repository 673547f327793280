"""Standard output as a sink, for the program on the other side of a pipe."""

import os
import sys

from drawwell.entropy.blocks import Grant
from drawwell.errors import SinkRefused
from drawwell.reports import SinkReport
from drawwell.sinks.descriptor import abandoned, refusing, writable, write_all


class StdoutSink:
    """A `Sink` (see ports.py). Bytes never go to a terminal.

    Args:
        chunk_bytes: How much is drawn at a time.
        fd: The descriptor; standard output if not given.

    Raises:
        SinkRefused: it is a terminal.
    """

    def __init__(self, chunk_bytes: int = 4096, fd: int | None = None) -> None:
        self._fd = sys.stdout.fileno() if fd is None else fd
        if os.isatty(self._fd):
            raise SinkRefused("standard output is a terminal", hint="Redirect it to a program or to a file.")
        self._chunk_bytes = chunk_bytes
        self._deliveries = self._delivered_bytes = 0

    @property
    def report(self) -> SinkReport:
        """What it got so far."""
        return SinkReport("standard output", self._deliveries, self._delivered_bytes, 0, 0, "")

    def wanted_bytes(self) -> int:
        """One chunk."""
        return self._chunk_bytes

    async def wait_wanted(self) -> None:
        """Return when there is room.

        Raises:
            SinkRefused: nobody reads any more.
        """
        await writable(self._fd)
        if abandoned(self._fd):
            raise SinkRefused("nobody reads standard output any more", hint="Start the reader again.")

    async def deliver(self, grant: Grant) -> SinkReport:
        """Write the grant.

        Raises:
            SinkRefused: nobody reads any more, or the disk is full.
        """
        with refusing("cannot write to standard output"):
            await write_all(self._fd, grant.data)
        self._deliveries += 1
        self._delivered_bytes += len(grant)
        return self.report

    async def aclose(self) -> None:
        """Leave it open: it is not ours."""
