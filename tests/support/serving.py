"""Doors that are open during a block."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence

from drawwell.doors.door import Door


@contextlib.asynccontextmanager
async def serving(*doors: Door, handed: Sequence[socket.socket] = ()) -> AsyncIterator[None]:
    """Serve until the block ends. An exception in a door ends the block."""
    async with asyncio.TaskGroup() as tasks:
        served = [tasks.create_task(door.serve(handed)) for door in doors]
        for door in doors:
            await door.ready.wait()
        try:
            yield
        finally:
            for task in served:
                task.cancel()
