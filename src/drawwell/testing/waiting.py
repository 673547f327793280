"""Waiting for something to become true, and no longer than it can take."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")
DEADLINE_S = 30.0
"""A test that waits so long has failed; nothing here takes as much on the slowest machine."""
_LOOK_EVERY_S = 0.005


async def until(holds: Callable[[], _T], what: str) -> _T:
    """Return what `holds` returns as soon as that is true.

    Raises:
        AssertionError: `what` did not happen.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + DEADLINE_S
    while not (found := holds()):
        if loop.time() > deadline:
            raise AssertionError(f"never happened: {what}")
        await asyncio.sleep(_LOOK_EVERY_S)
    return found


def wait_until(holds: Callable[[], _T], what: str) -> _T:
    """Do the same where no event loop runs."""
    deadline = time.monotonic() + DEADLINE_S
    while not (found := holds()):
        if time.monotonic() > deadline:
            raise AssertionError(f"never happened: {what}")
        time.sleep(_LOOK_EVERY_S)
    return found
