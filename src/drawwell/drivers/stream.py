"""Bytes from a descriptor, with a bounded wait: a pipe, a FIFO, or a device that cannot even be polled."""

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
"""How often to look into a device that cannot be polled; /dev/hwrng of virtio keeps its full rate at this."""


class Gone(Exception):
    """The other end is closed or unplugged; the words say how.

    `left_bytes` is how many bytes lay in the pipe, and are dropped.
    """

    def __init__(self, how: str, left_bytes: int = 0) -> None:
        super().__init__(how)
        self.left_bytes = left_bytes


class SampleStream(Protocol):
    """What a driver reads from."""

    async def read(self, max_bytes: int, wait_s: float) -> bytes:
        """Return 1 to `max_bytes` bytes, or none when none came within `wait_s`.

        Raises:
            Gone, SourceUnavailable: it ended.
        """

    def close(self) -> None:
        """Let go of it; never raises."""


def stream_of(fd: int) -> SampleStream:
    """Return the way to read from `fd`, which belongs to it from now on."""
    with select.epoll() as epoll:
        try:
            epoll.register(fd)
        except PermissionError:  # epoll(7): EPERM, it cannot be polled
            return WatchedStream(fd)
    return PolledStream(fd)


class PolledStream:
    """A descriptor that says when it has bytes: pipes, FIFOs. Made non-blocking, and owned, by this."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._begun = False
        self._hang_up = select.poll()
        self._hang_up.register(fd, 0)  # poll(2): POLLHUP is told whatever was asked for

    async def read(self, max_bytes: int, wait_s: float) -> bytes:
        """Read as `SampleStream.read`; an end before the first byte is a writer that is not there yet.

        A writer that has gone is noticed at once: what it left in the pipe is dropped.
        """
        self._require_writer()
        data = await self.read_to_end(max_bytes, wait_s)
        self._require_writer(len(data))
        return data

    async def read_to_end(self, max_bytes: int, wait_s: float) -> bytes:
        """Read what a writer left, too; raises `Gone` after the last of it."""
        data = self._read_now(max_bytes)
        if data is None and wait_s > 0 and await readable(self._fd, wait_s):
            data = self._read_now(max_bytes)
        return data or b""

    def close(self) -> None:
        """Close the descriptor."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _require_writer(self, dropped_bytes: int = 0) -> None:
        """Raise `Gone` when the last writer has closed; a FIFO that never had one is not hung up."""
        if any(events & select.POLLHUP for _fd, events in self._hang_up.poll(0)):
            left = fcntl.ioctl(self._fd, termios.FIONREAD, b"\0" * 4)
            raise Gone("it ended", dropped_bytes + int.from_bytes(left, sys.byteorder))

    def _read_now(self, max_bytes: int) -> bytes | None:
        try:
            data = os.read(self._fd, max_bytes)
        except BlockingIOError:
            return None
        except OSError as error:
            raise Gone(str(error.strerror)) from error
        if not data and self._begun:
            raise Gone("it ended")
        self._begun = self._begun or bool(data)
        return data or None


class WatchedStream:
    """A device that cannot be polled, as /dev/hwrng: looked into again and again.

    It is opened non-blocking, so that no thread stays in it for ever; yet some drivers (TPM) take their time over
    each read, so one thread does them, and the close after them. What a cancelled read still brings is dropped.
    """

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="drawwell-device")

    async def read(self, max_bytes: int, wait_s: float) -> bytes:
        """Read as `SampleStream.read`."""
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
        """Close the descriptor, after a read that may be under way."""
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
            raise Gone("it ended")
        data += more
    return data
