"""Doors that are open for the length of a block."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from drawwell.doors.door import Door


@contextlib.asynccontextmanager
async def serving(*doors: Door) -> AsyncIterator[None]:
    """Serve until the block ends. What a door raises ends the block."""
    async with asyncio.TaskGroup() as tasks:
        served = [tasks.create_task(door.serve()) for door in doors]
        for door in doors:
            await door.ready.wait()
        try:
            yield
        finally:
            for task in served:
                task.cancel()
