"""Descriptors that are written to without ever blocking the event loop."""

import os
import select
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from drawwell.errors import SinkRefused
from drawwell.service import readiness

# A pipe that polls as writable has a page free: so much goes in without blocking (pipe(7)).
_AT_ONCE_BYTES: Final = select.PIPE_BUF


async def writable(fd: int, timeout_s: float | None = None) -> bool:
    """Wait until a write would not block or would fail; False when `timeout_s` ran out first.

    A descriptor that cannot be polled, such as a regular file, always is.
    """
    try:
        return await readiness.writable(fd, timeout_s)
    except PermissionError:  # epoll(7): EPERM, regular files and the like
        return True


async def write_all(fd: int, data: bytes) -> None:
    """Write all of `data`, waiting for room as long as it takes.

    Raises:
        OSError: whatever the descriptor says; some of `data` may have gone in.
    """
    view = memoryview(data)
    while view:
        await writable(fd)
        try:
            view = view[os.write(fd, view[:_AT_ONCE_BYTES]) :]
        except BlockingIOError:
            continue


def abandoned(fd: int) -> bool:
    """Has the pipe no reader? It polls as an error then; nothing else does."""
    poll = select.poll()
    poll.register(fd, 0)
    return bool(poll.poll(0))


@contextmanager
def refusing(words: str) -> Iterator[None]:
    """Turn an OSError into a refusal that begins with `words`.

    Raises:
        SinkRefused: instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise SinkRefused(
            f"{words}: {error.strerror}", hint="Mend it, or name another place to pour into."
        ) from None
