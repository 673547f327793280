"""Wait for conditions: only this module limits a test's waits."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")
DEADLINE_S = 300.0
"""Limit of a wait, long enough for a busy machine; its only purpose is to end a hang."""
LOOK_EVERY_S = 0.005
"""Time between two checks of a condition."""
_TURNS = 8
"""After this many iterations, an event loop has reported a ready file descriptor."""


async def until(holds: Callable[[], _T], what: str) -> _T:
    """Wait until `holds` returns a true value, and return it.

    Raises:
        AssertionError: `what` did not happen.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + DEADLINE_S
    while not (found := holds()):
        if loop.time() > deadline:
            raise AssertionError(f"never happened: {what}")
        await asyncio.sleep(LOOK_EVERY_S)
    return found


async def ends_at_once(waiting: Coroutine[Any, Any, None]) -> bool:
    """Return whether `waiting` ends without delay; otherwise cancel it."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(waiting)
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        return not task.cancel()


def wait_until(holds: Callable[[], _T], what: str) -> _T:
    """Wait as `until` does, but without an event loop."""
    deadline = time.monotonic() + DEADLINE_S
    while not (found := holds()):
        if time.monotonic() > deadline:
            raise AssertionError(f"never happened: {what}")
        time.sleep(LOOK_EVERY_S)
    return found
