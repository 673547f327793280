"""Standard output as a sink, for a program at the other end of a pipe."""

import os
import sys

from drawwell.entropy.blocks import Grant
from drawwell.errors import SinkRefused
from drawwell.reports import SinkReport
from drawwell.sinks.descriptor import abandoned, refusing, writable, write_all


class StdoutSink:
    """A `Sink` (see ports.py) that refuses terminals.

    Args:
        chunk_bytes: Size of a draw.
        fd: The file descriptor, by default standard output.

    Raises:
        SinkRefused: standard output is a terminal.
    """

    def __init__(self, chunk_bytes: int = 4096, fd: int | None = None) -> None:
        self._fd = sys.stdout.fileno() if fd is None else fd
        if os.isatty(self._fd):
            raise SinkRefused("standard output is a terminal", hint="Redirect it to a program or a file.")
        self._chunk_bytes = chunk_bytes
        self._deliveries = self._delivered_bytes = 0

    @property
    def report(self) -> SinkReport:
        return SinkReport("standard output", self._deliveries, self._delivered_bytes, 0, 0, "")

    def wanted_bytes(self) -> int:
        return self._chunk_bytes

    async def wait_wanted(self) -> None:
        """Wait for room in the pipe.

        Raises:
            SinkRefused: standard output has no reader.
        """
        await writable(self._fd)
        if abandoned(self._fd):
            raise SinkRefused("the reader of standard output has closed it", hint="Start the reader again.")

    async def deliver(self, grant: Grant) -> SinkReport:
        """Write the grant.

        Raises:
            SinkRefused: standard output has no reader, or the disk is full.
        """
        with refusing("cannot write to standard output"):
            await write_all(self._fd, grant.data)
        self._deliveries += 1
        self._delivered_bytes += len(grant)
        return self.report

    async def aclose(self) -> None:
        """Do nothing: standard output stays open."""
