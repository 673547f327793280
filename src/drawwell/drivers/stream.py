"""Reads with timeouts from a pipe, a FIFO or a device without poll."""

import asyncio
import fcntl
import os
import select
import sys
import termios
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final, Protocol

from drawwell.service.readiness import readable

_LOOK_AGAIN_S: Final = 0.005
"""Interval of reads without poll, short enough for the full rate of /dev/hwrng with virtio."""


class Gone(Exception):
    """Raised if the other end is closed or gone; the message gives the cause.

    `left_bytes` is the number of bytes that were discarded from the pipe.
    """

    def __init__(self, how: str, left_bytes: int = 0) -> None:
        super().__init__(how)
        self.left_bytes = left_bytes


class SampleStream(Protocol):
    """A driver's input."""

    async def read(self, max_bytes: int, wait_s: float) -> bytes:
        """Return 1 to `max_bytes` bytes, or b"" after `wait_s`.

        Raises:
            Gone, SourceUnavailable: the stream ended.
        """

    def close(self) -> None:
        """Close the stream; never raises."""


def stream_of(fd: int) -> SampleStream:
    """Return a reader that owns `fd`."""
    with select.epoll() as epoll:
        try:
            epoll.register(fd)
        except PermissionError:  # epoll(7): EPERM means no poll support
            return WatchedStream(fd)
    return PolledStream(fd)


class PolledStream:
    """A reader of a pipe or FIFO; makes the descriptor non-blocking."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._begun = False
        self._hang_up = select.poll()
        self._hang_up.register(fd, 0)  # poll(2): POLLHUP is always reported

    async def read(self, max_bytes: int, wait_s: float) -> bytes:
        """Read as `SampleStream.read` does; also wait for the first writer.

        If the writer closes, this is detected at once, and the writer's unread bytes are
        discarded.
        """
        self._require_writer()
        data = await self.read_to_end(max_bytes, wait_s)
        self._require_writer(len(data))
        return data

    async def read_to_end(self, max_bytes: int, wait_s: float) -> bytes:
        """Also read the bytes that a closed writer left, then raise `Gone`."""
        data = self._read_now(max_bytes)
        if data is None and wait_s > 0 and await readable(self._fd, wait_s):
            data = self._read_now(max_bytes)
        return data or b""

    def close(self) -> None:
        """Close the file descriptor."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _require_writer(self, dropped_bytes: int = 0) -> None:
        """Raise `Gone` if there was a writer and the last writer has closed."""
        if any(events & select.POLLHUP for _fd, events in self._hang_up.poll(0)):
            left = fcntl.ioctl(self._fd, termios.FIONREAD, b"\0" * 4)
            raise Gone("the writer closed it", dropped_bytes + int.from_bytes(left, sys.byteorder))

    def _read_now(self, max_bytes: int) -> bytes | None:
        try:
            data = os.read(self._fd, max_bytes)
        except BlockingIOError:
            return None
        except OSError as error:
            raise Gone(str(error.strerror)) from error
        if not data and self._begun:
            raise Gone("the writer closed it")
        self._begun = self._begun or bool(data)
        return data or None


class WatchedStream:
    """A reader of a device without poll support, such as /dev/hwrng.

    It repeats non-blocking reads, so no thread hangs. With some drivers (TPM), each read still
    takes time, so one thread reads and closes. The bytes of a cancelled read are discarded.
    """

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="drawwell-device")

    async def read(self, max_bytes: int, wait_s: float) -> bytes:
        """Read as `SampleStream.read` does."""
        loop = asyncio.get_running_loop()
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while True:
                    data = await loop.run_in_executor(self._thread, _read_what_is_there, self._fd, max_bytes)
                    if data:
                        return data
                    await asyncio.sleep(_LOOK_AGAIN_S)
        return b""

    def close(self) -> None:
        """Close the file descriptor once no read is running."""
        if self._fd >= 0:
            self._thread.submit(os.close, self._fd)
            self._thread.shutdown(wait=False)
            self._fd = -1


def _read_what_is_there(fd: int, max_bytes: int) -> bytes:
    data = b""
    while len(data) < max_bytes:
        try:
            more = os.read(fd, max_bytes - len(data))
        except BlockingIOError:
            break
        except OSError as error:
            raise Gone(str(error.strerror)) from error
        if not more:
            raise Gone("it returned EOF")
        data += more
    return data
