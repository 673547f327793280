"""Misbehaving peers of the EGD door, and their limits."""

import asyncio
import os
import socket
from pathlib import Path

import pytest

from drawwell.doors.door import Limits
from drawwell.doors.egd import EgdDoor
from drawwell.errors import (
    ConfigError,
    DrawRefused,
    DrawwellError,
    PermissionRefused,
    QuotaExceeded,
    Starved,
)
from drawwell.testing.waiting import until
from integration.egd_client import FULL, Client, bench_door, opened, unix_door, workbench
from support.fake_broker import FakeBroker


async def _send_for_ever(peer: socket.socket, data: bytes) -> None:
    while True:
        await asyncio.get_running_loop().sock_sendall(peer, data)


@pytest.mark.parametrize(
    "error", [DrawRefused("never"), PermissionRefused("gone")], ids=["draw refused", "consumer gone"]
)
@pytest.mark.parametrize("request_bytes", [b"\x01\x20", b"\x02\x20"], ids=["at once", "waiting"])
def test_hopeless_peer_is_sent_away(tmp_path: Path, error: DrawwellError, request_bytes: bytes) -> None:
    """A request that can never be served ends the connection."""

    async def run() -> None:
        broker = FakeBroker(refuse=lambda _consumer, _n: error)
        async with opened(door := unix_door(tmp_path, broker)):
            client = await Client.to(door)
            client.writer.write(request_bytes)
            assert await client.ended() == b""

    asyncio.run(run())


def test_waiting_read_outlasts_every_passing_refusal(tmp_path: Path) -> None:
    """A blocking read is retried after each refusal, and finally served."""

    async def run() -> None:
        refusals = [Starved("short", retry_after_s=0.01), QuotaExceeded("rate", retry_after_s=0.01)]
        broker = FakeBroker(refuse=lambda _consumer, _n: refusals.pop() if refusals else None)
        async with opened(door := unix_door(tmp_path, broker)):
            assert len(await (await Client.to(door)).read_waiting(16)) == 16
        assert refusals == []

    asyncio.run(run())


def test_unknown_command_ends_the_connection(tmp_path: Path) -> None:
    """Pending answers are sent; later input cannot be parsed."""

    async def run() -> None:
        async with opened(door := unix_door(tmp_path, FakeBroker())):
            client = await Client.to(door)
            client.writer.write(b"\x04\x05\x04")
            pid = str(os.getpid()).encode()
            assert await client.ended() == bytes((len(pid),)) + pid
            assert door.counts.protocol_errors == 1

    asyncio.run(run())


def test_half_a_request_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    """An incomplete request has a deadline; an idle peer does not."""

    async def run() -> None:
        limits = Limits(frame_deadline_s=0.1)  # short: the time is the fact
        door = unix_door(tmp_path, FakeBroker(), limits=limits)
        async with opened(door):
            silent, slow = await Client.to(door), await Client.to(door)
            slow.writer.write(b"\x02")
            assert await slow.ended() == b""
            assert await silent.process()
            assert door.counts.overdue == 1

    asyncio.run(run())


def test_peer_that_never_reads_is_not_served_for_ever(tmp_path: Path) -> None:
    """A peer that does not read its answers is disconnected; others are not."""

    async def run() -> None:
        broker = FakeBroker()
        door = unix_door(tmp_path, broker, limits=Limits(write_deadline_s=0.2))  # short: the time is the fact
        async with opened(door):
            good = await Client.to(door)
            with socket.socket(socket.AF_UNIX) as peer:
                peer.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_connect(peer, door.address)
                with pytest.raises(ConnectionError):
                    await _send_for_ever(peer, b"\x02\xff" * 4096)
            assert len(await good.read_waiting(32)) == 32
            assert broker.drawn_bytes["guest1"] < 2**22

    asyncio.run(run())


def test_waiting_read_of_a_peer_that_went_takes_nothing(tmp_path: Path) -> None:
    """If the peer disconnects, its place in the queue is freed."""

    async def run() -> None:
        bench = workbench()
        async with opened(door := bench_door(tmp_path, bench)), bench.run():
            gone = await Client.to(door)
            gone.writer.write(b"\x02\xff")
            assert await (await Client.to(door)).process()
            gone.writer.close()
            await until(lambda: door.sessions == 1, "the door saw it go")
            bench.put(bytes(range(64)))
            assert await (await Client.to(door)).level() == 8 * 16
            assert bench.broker.accounts["guest1"].draws == 0

    asyncio.run(run())


def test_door_is_bounded(tmp_path: Path) -> None:
    """At the limit, the oldest connection is closed for a new one."""

    async def run() -> None:
        door = unix_door(tmp_path, FakeBroker(), limits=Limits(max_sessions_each=3))
        async with opened(door):
            clients = [await Client.to(door) for _ in range(4)]
            assert await clients[-1].process()
            assert await clients[0].ended() == b""
            assert door.sessions == 3

    asyncio.run(run())


@pytest.mark.parametrize(
    "where", ["*:8888", "0.0.0.0:8888", "192.0.2.1:8888", "[::]:8888", "127.0.0.1", "here:1"]
)
def test_door_opens_to_this_machine_only(where: str) -> None:
    """EGD has no authentication, so it is served only on loopback."""
    with pytest.raises(ConfigError, match="not a loopback address"):
        EgdDoor(where, FakeBroker(), "guest1", FULL, lambda: 0)
