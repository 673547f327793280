"""The link to a Unix door, and failing brokers."""

import asyncio
import socket
from pathlib import Path

import pytest

from drawwell.doors.unix import UnixDoor
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import LinkUnavailable
from drawwell.links.unix import UnixLink
from drawwell.testing.waiting import DEADLINE_S
from drawwell.wire.frames import Bye
from support.fake_broker import FakeBroker
from support.serving import serving
from support.unix_sessions import greeted, named, read_frame


def test_door_that_closes_sends_bye(tmp_path: Path) -> None:
    """An idle client gets the reason, and its next draw is LinkUnavailable."""

    async def run() -> None:
        door = UnixDoor(str(tmp_path / "draw"), FakeBroker(), named)
        async with serving(door), asyncio.timeout(DEADLINE_S):
            reader, writer = await greeted(door)
            link = UnixLink(door.path)
            await link.draw(1, DrawClass.FULL)
        assert await read_frame(reader) == Bye("the broker is closing")
        with pytest.raises(LinkUnavailable) as caught:
            await link.draw(1, DrawClass.FULL)
        assert caught.value.hint
        writer.close()

    asyncio.run(run())


def test_link_opens_itself_again_after_a_loss(tmp_path: Path) -> None:
    """The link reconnects to a restarted broker; no draw is sent twice."""
    broker = FakeBroker()

    async def run() -> None:
        link = UnixLink(str(tmp_path / "draw"))
        for _ in range(2):
            async with serving(UnixDoor(link.name, broker, named)), asyncio.timeout(DEADLINE_S):
                await link.draw(32, DrawClass.FULL)
        await link.aclose()

    asyncio.run(run())
    assert broker.serial == 2


def test_answer_that_does_not_come_is_lost_and_the_link_given_up(tmp_path: Path) -> None:
    """At its deadline the draw raises LinkUnavailable; it was sent once."""

    async def run() -> None:
        broker = FakeBroker(gate=asyncio.Event())
        door = UnixDoor(str(tmp_path / "draw"), broker, named)
        async with serving(door), asyncio.timeout(DEADLINE_S):
            link = UnixLink(door.path, answer_deadline_s=0.05)  # short: the time is the fact
            with pytest.raises(LinkUnavailable, match="no answer"):
                await link.draw(32, DrawClass.FULL)
            assert door.counts.accepted == 1
            await link.aclose()

    asyncio.run(run())


def test_broker_that_never_welcomes_is_given_up(tmp_path: Path) -> None:
    """A silent listener counts as an unavailable broker."""
    path = str(tmp_path / "mute")

    async def run() -> None:
        with socket.socket(socket.AF_UNIX) as mute:
            mute.bind(path)
            mute.listen()
            async with asyncio.timeout(DEADLINE_S):
                with pytest.raises(LinkUnavailable, match="no welcome"):
                    # short: the time is the fact
                    await UnixLink(path, open_deadline_s=0.05).draw(32, DrawClass.FULL)

    asyncio.run(run())


def test_broker_that_is_not_there_is_unavailable_with_a_hint(tmp_path: Path) -> None:
    """The error names the missing socket."""
    with pytest.raises(LinkUnavailable, match="nothing") as caught:
        asyncio.run(UnixLink(str(tmp_path / "nothing")).draw(32, DrawClass.FULL))
    assert caught.value.hint


def test_bytes_of_a_cancelled_draw_are_dropped(tmp_path: Path) -> None:
    """A cancelled draw's answer is dropped; the next draw gets its own."""

    async def run() -> None:
        gate = asyncio.Event()
        broker = FakeBroker(gate=gate)
        door = UnixDoor(str(tmp_path / "draw"), broker, named)
        async with serving(door), asyncio.timeout(DEADLINE_S):
            link = UnixLink(door.path)
            async with asyncio.TaskGroup() as tasks:
                given_up = tasks.create_task(link.draw(32, DrawClass.FULL))
                await broker.until_waiting(1)
                given_up.cancel()
            gate.set()
            grant = await link.draw(32, DrawClass.FULL)
            assert (grant.serial, door.counts.accepted) == (2, 1)
            await link.aclose()

    asyncio.run(run())
