"""Deadlines and limits of the Unix door."""

import asyncio
import socket
from pathlib import Path

import pytest

from drawwell.doors.door import Limits
from drawwell.doors.unix import UnixDoor
from drawwell.entropy.blocks import DrawClass
from drawwell.links.unix import UnixLink
from drawwell.testing.waiting import DEADLINE_S
from drawwell.wire.frames import Bye, Draw, Hello
from drawwell.wire.limits import MAX_OPEN_REQUESTS
from support.fake_broker import FakeBroker
from support.serving import serving
from support.unix_sessions import drained, greeted, named, read_frame


async def _send_for_ever(peer: socket.socket, data: bytes) -> None:
    while True:
        await asyncio.get_running_loop().sock_sendall(peer, data)


@pytest.mark.parametrize("first", [b"", b"\x01", b"\x01\x00\x00\x02\x01"], ids=["silent", "type", "half"])
def test_peer_that_does_not_greet_in_time_is_closed(tmp_path: Path, first: bytes) -> None:
    """Silence or half a hello ends at the handshake's deadline."""

    async def run() -> None:
        limits = Limits(handshake_deadline_s=0.05)  # short: the time is the fact
        door = UnixDoor(str(tmp_path / "draw"), FakeBroker(), named, limits=limits)
        async with serving(door), asyncio.timeout(DEADLINE_S):
            reader, writer = await asyncio.open_unix_connection(door.path)
            writer.write(first)
            assert await drained(reader) == b""
            assert (door.counts.overdue, door.half_open) == (1, 0)
            writer.close()

    asyncio.run(run())


def test_half_a_frame_ends_at_the_frames_deadline_and_silence_does_not(tmp_path: Path) -> None:
    """A session may be idle; one that stops within a frame is closed."""

    async def run() -> None:
        limits = Limits(frame_deadline_s=0.05)  # short: the time is the fact
        door = UnixDoor(str(tmp_path / "draw"), FakeBroker(), named, limits=limits)
        async with serving(door), asyncio.timeout(DEADLINE_S):
            idle = UnixLink(door.path)
            await idle.welcome()
            reader, writer = await greeted(door)
            writer.write(Draw(32, DrawClass.FULL, request_id=1).encode()[:9])
            assert await drained(reader) == b""
            assert (door.counts.overdue, door.sessions) == (1, 1)
            await idle.draw(32, DrawClass.FULL)
            await idle.aclose()
            writer.close()

    asyncio.run(run())


def test_idle_deadline_closes_a_silent_peer(tmp_path: Path) -> None:
    """If the operator sets a deadline, silence ends the session."""

    async def run() -> None:
        # short: the time is the fact
        door = UnixDoor(str(tmp_path / "draw"), FakeBroker(), named, limits=Limits(idle_deadline_s=0.05))
        async with serving(door), asyncio.timeout(DEADLINE_S):
            reader, writer = await greeted(door)
            assert await drained(reader) == b""
            writer.close()

    asyncio.run(run())


def test_peer_that_asks_and_never_reads_is_bounded_and_closed(tmp_path: Path) -> None:
    """A peer that reads no answers is limited, then closed; others can draw."""
    broker = FakeBroker()

    async def run() -> None:
        # short: the time is the fact
        door = UnixDoor(str(tmp_path / "draw"), broker, named, limits=Limits(write_deadline_s=0.2))
        async with serving(door), asyncio.timeout(DEADLINE_S):
            greedy = socket.socket(socket.AF_UNIX)
            greedy.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(greedy, door.path)
            await loop.sock_sendall(greedy, Hello((1,)).encode())
            asked = b"".join(Draw(65536, DrawClass.DRBG, request_id=n).encode() for n in range(1, 10_000))
            link = UnixLink(door.path)
            with pytest.raises(ConnectionError):
                await _send_for_ever(greedy, asked)
            await link.draw(32, DrawClass.FULL)
            assert door.counts.overdue == 1
            await link.aclose()
            greedy.close()

    asyncio.run(run())
    assert broker.serial < 200


def test_draws_that_wait_are_answered_as_they_come(tmp_path: Path) -> None:
    """Many draws of one session wait at once, and all are answered."""

    async def run() -> None:
        gate = asyncio.Event()
        broker = FakeBroker(gate=gate)
        door = UnixDoor(str(tmp_path / "draw"), broker, named)
        async with serving(door), asyncio.timeout(DEADLINE_S):
            link = UnixLink(door.path)
            async with asyncio.TaskGroup() as tasks:
                waiting = [tasks.create_task(link.draw(32, DrawClass.FULL)) for _ in range(200)]
                await broker.until_waiting(MAX_OPEN_REQUESTS)
                gate.set()
            assert len({task.result().data for task in waiting}) == 200
            await link.aclose()

    asyncio.run(run())


def test_large_draws_that_wait_are_begun_four_at_a_time(tmp_path: Path) -> None:
    """A peer's pending answers are limited in bytes, not only in number."""

    async def run() -> None:
        gate = asyncio.Event()
        broker = FakeBroker(gate=gate)
        door = UnixDoor(str(tmp_path / "draw"), broker, named)
        async with serving(door), asyncio.timeout(DEADLINE_S):
            reader, writer = await greeted(door)
            writer.write(b"".join(Draw(65536, DrawClass.DRBG, request_id=n).encode() for n in range(1, 9)))
            other = UnixLink(door.path)
            await broker.until_waiting(4)
            await other.welcome()
            assert broker.waiting == 4
            gate.set()
            ids = {(await read_frame(reader)).request_id for _ in range(8)}  # type: ignore[attr-defined]
            assert ids == set(range(1, 9))
            await other.aclose()
            writer.close()

    asyncio.run(run())


def test_what_waits_for_a_peer_that_left_is_dropped(tmp_path: Path) -> None:
    """A draw of a disconnected consumer stops waiting."""

    async def run() -> None:
        broker = FakeBroker(gate=asyncio.Event())
        door = UnixDoor(str(tmp_path / "draw"), broker, named)
        async with serving(door), asyncio.timeout(DEADLINE_S):
            _, writer = await greeted(door)
            writer.write(Draw(32, DrawClass.FULL, request_id=1).encode())
            await broker.until_waiting(1)
            writer.close()
            await broker.until_waiting(0)
            assert (broker.serial, door.sessions) == (0, 0)

    asyncio.run(run())


def test_nothing_more_is_drawn_for_a_peer_that_has_gone(tmp_path: Path) -> None:
    """Draws of a disconnected peer are dropped as soon as this is detected."""
    broker = FakeBroker()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        door = UnixDoor(str(tmp_path / "draw"), broker, named)
        async with serving(door), asyncio.timeout(DEADLINE_S):
            with socket.socket(socket.AF_UNIX) as peer:
                peer.connect(door.path)
                peer.setblocking(False)
                await loop.sock_sendall(peer, Hello((1,)).encode())
                await loop.sock_recv(peer, 100)
                peer.send(b"".join(Draw(65536, DrawClass.FULL, request_id=n).encode() for n in range(1, 65)))
            link = UnixLink(door.path)
            await link.draw(1, DrawClass.FULL)
            await link.aclose()

    asyncio.run(run())
    assert broker.serial <= 1 + 3


def test_one_open_request_too_many_ends_the_session(tmp_path: Path) -> None:
    """The sixty-fifth open request is a violation; the others are dropped."""

    async def run() -> None:
        broker = FakeBroker(gate=asyncio.Event())
        door = UnixDoor(str(tmp_path / "draw"), broker, named)
        async with serving(door), asyncio.timeout(DEADLINE_S):
            reader, writer = await greeted(door)
            writer.write(b"".join(Draw(1, DrawClass.FULL, request_id=n).encode() for n in range(1, 66)))
            assert await read_frame(reader) == Bye("more than 64 open requests")
            assert await drained(reader) == b""
            await broker.until_waiting(0)
            writer.close()

    asyncio.run(run())
