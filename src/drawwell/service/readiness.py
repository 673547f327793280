"""Waits for a readable or writable file descriptor, with a timeout."""

import asyncio
from collections.abc import Callable


async def readable(fd: int, timeout_s: float | None = None) -> bool:
    """Wait until a read would not block; return False on timeout.

    Raises:
        PermissionError: the descriptor has no poll support (epoll(7)): a file or /dev/hwrng.
    """
    loop = asyncio.get_running_loop()
    return await _wait(loop.add_reader, loop.remove_reader, fd, timeout_s)


async def writable(fd: int, timeout_s: float | None = None) -> bool:
    """Wait until a write would not block; otherwise like `readable`."""
    loop = asyncio.get_running_loop()
    return await _wait(loop.add_writer, loop.remove_writer, fd, timeout_s)


async def _wait(
    add: Callable[..., None], remove: Callable[[int], bool], fd: int, timeout_s: float | None
) -> bool:
    ready = asyncio.Event()
    add(fd, ready.set)
    try:
        async with asyncio.timeout(timeout_s):
            await ready.wait()
    except TimeoutError:
        return False
    finally:
        remove(fd)
    return True
