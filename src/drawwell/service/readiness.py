"""Waiting, bounded, until a descriptor can be read or written without blocking."""

import asyncio
from collections.abc import Callable


async def readable(fd: int, timeout_s: float | None = None) -> bool:
    """Wait until a read would not block or would fail; False when `timeout_s` ran out first.

    Raises:
        PermissionError: it cannot be polled (epoll(7)), as a regular file or /dev/hwrng.
    """
    loop = asyncio.get_running_loop()
    return await _wait(loop.add_reader, loop.remove_reader, fd, timeout_s)


async def writable(fd: int, timeout_s: float | None = None) -> bool:
    """Wait until a write would not block or would fail; returns and raises as `readable`."""
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
