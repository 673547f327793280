"""Writes to file descriptors without blocking the event loop."""

import os
import select
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from drawwell.errors import SinkRefused
from drawwell.service import readiness

# A pipe that polls as writable has a free page, so the write fits without blocking (pipe(7)).
_AT_ONCE_BYTES: Final = select.PIPE_BUF


async def writable(fd: int, timeout_s: float | None = None) -> bool:
    """Wait until a write would not block or fail; False after `timeout_s`.

    File descriptors without poll support, such as regular files, always count as writable.
    """
    try:
        return await readiness.writable(fd, timeout_s)
    except PermissionError:  # epoll(7): EPERM, as for regular files
        return True


async def write_all(fd: int, data: bytes) -> None:
    """Write all of `data`; wait for room without a time limit.

    Raises:
        OSError: the write failed; part of `data` may have been written.
    """
    view = memoryview(data)
    while view:
        await writable(fd)
        try:
            view = view[os.write(fd, view[:_AT_ONCE_BYTES]) :]
        except BlockingIOError:
            continue


def abandoned(fd: int) -> bool:
    """Return whether the pipe has no reader: poll then reports an error."""
    poll = select.poll()
    poll.register(fd, 0)
    return bool(poll.poll(0))


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Convert an OSError to a SinkRefused; its message starts with `what`.

    Raises:
        SinkRefused: instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise SinkRefused(f"{what}: {error.strerror}", hint="Fix this, or set another sink.") from None
