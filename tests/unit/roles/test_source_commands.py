"""A driver that hangs is detected."""

import asyncio

import pytest

from drawwell.errors import SourceUnavailable
from drawwell.roles.source_commands import HUNG_S, SUSPEND_S, WatchedDriver
from drawwell.testing.scripted import ScriptedSource
from drawwell.testing.virtual_time import run_virtually


def test_a_driver_that_does_not_answer_is_not_alive() -> None:
    """A call that lasts too long is a hang; an unused driver is alive."""

    async def ask() -> list[bool]:
        driver, never = ScriptedSource(), asyncio.Event()
        driver.at_read.append(never)
        watched = WatchedDriver(driver)
        seen = [watched.alive]
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(watched.read(16))
            await asyncio.sleep(HUNG_S / 2)
            seen.append(watched.alive)
            await asyncio.sleep(HUNG_S)
            seen.append(watched.alive)
            never.set()
            await reading
        return [*seen, watched.alive]

    assert run_virtually(ask()) == [True, True, False, True]


def test_after_a_resume_nothing_is_read_until_the_device_was_reopened() -> None:
    """A read across a suspend is dropped, because the device may differ."""

    async def ask() -> None:
        asleep = [0.0]
        watched = WatchedDriver(ScriptedSource(), lambda: asleep[0])
        await watched.open()
        await watched.read(16)
        asleep[0] += 2 * SUSPEND_S
        with pytest.raises(SourceUnavailable, match="suspended"):
            await watched.read(16)
        await watched.open()
        await watched.read(16)

    run_virtually(ask())
