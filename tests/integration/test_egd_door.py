"""The EGD door over real sockets: all five commands, good peers and bad ones, and a program that others wrote."""

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from drawwell.broker.account import Terms
from drawwell.broker.broker import Rules
from drawwell.doors.door import Limits
from drawwell.doors.egd import EgdDoor
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import (
    ConfigError,
    DrawRefused,
    DrawwellError,
    PermissionRefused,
    QuotaExceeded,
    Starved,
)
from drawwell.testing.waiting import until
from drawwell.units import Allowance
from support.fake_broker import FakeBroker
from support.serving import serving
from support.workbench import UNLIMITED, Workbench

PATIENCE_S = 20.0
"""How long a test waits before it calls a thing hung; nothing is asserted about it."""
FULL = DrawClass.FULL
ORDINARY = Limits()


class Client:
    """EGD as its manual has it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, door: EgdDoor) -> "Client":
        if "/" in door.address:
            client = cls(*await asyncio.open_unix_connection(door.address))
        else:
            host, _, port = door.address.rpartition(":")
            client = cls(*await asyncio.open_connection(host.strip("[]"), int(port)))
        CLIENTS.append(client)
        return client

    async def level(self) -> int:
        self.writer.write(b"\x00")
        return struct.unpack(">I", await self.reader.readexactly(4))[0]

    async def read(self, n_bytes: int) -> bytes:
        self.writer.write(bytes((1, n_bytes)))
        return await self._counted()

    async def read_waiting(self, n_bytes: int) -> bytes:
        self.writer.write(bytes((2, n_bytes)))
        return await self.reader.readexactly(n_bytes)

    def write(self, data: bytes, bits: int = 0) -> None:
        self.writer.write(b"\x03" + struct.pack(">HB", bits, len(data)) + data)

    async def process(self) -> bytes:
        self.writer.write(b"\x04")
        return await self._counted()

    async def _counted(self) -> bytes:
        return await self.reader.readexactly((await self.reader.readexactly(1))[0])

    async def ended(self) -> bytes:
        try:
            return await self.reader.read()
        except ConnectionError:
            return b""


CLIENTS: list[Client] = []


@contextlib.asynccontextmanager
async def opened(door: EgdDoor) -> AsyncIterator[None]:
    """Serve for the length of a block, and close its clients before the door."""
    async with serving(door), asyncio.timeout(PATIENCE_S):
        try:
            yield
        finally:
            while CLIENTS:
                CLIENTS.pop().writer.close()


async def _send_for_ever(peer: socket.socket, data: bytes) -> None:
    while True:
        await asyncio.get_running_loop().sock_sendall(peer, data)


def unix_door(
    tmp_path: Path, broker: FakeBroker, available: int = 10**6, limits: Limits = ORDINARY
) -> EgdDoor:
    return EgdDoor(str(tmp_path / "egd"), broker, "guest1", FULL, lambda: available, limits=limits)


def workbench(terms: Terms = UNLIMITED) -> Workbench:
    """A broker that is ready without a source: it gets what the test puts into it."""
    return Workbench(rules=Rules("bench", min_sources=0), terms={"guest1": terms})


def bench_door(tmp_path: Path, bench: Workbench, draw_class: DrawClass = FULL) -> EgdDoor:
    level = lambda: bench.broker.available_bytes("guest1", draw_class)  # noqa: E731
    return EgdDoor(str(tmp_path / "egd"), bench.broker, "guest1", draw_class, level)


@pytest.mark.parametrize("where", ["unix", "127.0.0.1:0", "[::1]:0"])
def test_all_five_commands_are_answered(tmp_path: Path, where: str) -> None:
    """Level, both reads, a write that is kept for the consumer and not answered, and the process."""

    async def run() -> None:
        broker = FakeBroker()
        path = str(tmp_path / "egd") if where == "unix" else where
        door = EgdDoor(path, broker, "guest1", FULL, lambda: 500)
        async with opened(door):
            client = await Client.to(door)
            assert await client.level() == 4000
            assert len(await client.read(32)) == 32
            assert len(await client.read_waiting(255)) == 255
            client.write(b"salt", bits=32)
            assert await client.process() == str(os.getpid()).encode()
            assert await client.read(0) == b""
            assert broker.stirred == [("guest1", b"salt")]
            assert broker.drawn_bytes == {"guest1": 287}

    asyncio.run(run())


def test_requests_in_flight_are_answered_in_their_order(tmp_path: Path) -> None:
    """A thousand requests in one write, cut anywhere, are answered one after the other."""

    async def run() -> None:
        async with opened(door := unix_door(tmp_path, FakeBroker())):
            client = await Client.to(door)
            requests = (b"\x01\x20" + b"\x02\x10" + b"\x04") * 334
            for start in range(0, len(requests), 7):
                client.writer.write(requests[start : start + 7])
                await client.writer.drain()
            serials = []
            for _ in range(334):
                serials.append((await client._counted())[:8])
                serials.append((await client.reader.readexactly(16))[:8])
                assert await client._counted() == str(os.getpid()).encode()
            assert len(set(serials)) == 668

    asyncio.run(run())


def test_answer_leaves_in_one_piece(tmp_path: Path) -> None:
    """Count and bytes come in one packet: two would wait for each other's acknowledgement."""

    async def run() -> None:
        door = EgdDoor("127.0.0.1:0", FakeBroker(), "guest1", FULL, lambda: 500)
        async with opened(door):
            loop = asyncio.get_running_loop()
            host, _, port = door.address.rpartition(":")
            with socket.create_connection((host, int(port))) as peer:
                peer.setblocking(False)
                for _ in range(50):
                    await loop.sock_sendall(peer, b"\x01\x40")
                    assert len(await loop.sock_recv(peer, 4096)) == 65

    asyncio.run(run())


def test_waiting_read_waits_and_others_go_on(tmp_path: Path) -> None:
    """A peer whose read waits holds up nobody; what it asked after that is answered after that."""

    async def run() -> None:
        bench = workbench()
        async with opened(door := bench_door(tmp_path, bench)), bench.run():
            waiting, other = await Client.to(door), await Client.to(door)
            waiting.writer.write(b"\x02\x20\x04")
            assert await other.process()
            assert await other.read(32) == b""
            bench.put(bytes(range(128)))
            assert len(await waiting.reader.readexactly(32)) == 32
            assert await waiting._counted() == str(os.getpid()).encode()

    asyncio.run(run())


def test_reads_without_waiting_take_what_is_there(tmp_path: Path) -> None:
    """The level is what the reservoir holds beyond the seed that is due; a read gets that much of what it asked."""

    async def run() -> None:
        bench = workbench()
        async with opened(door := bench_door(tmp_path, bench)), bench.run():
            client = await Client.to(door)
            assert await client.level() == 0
            bench.put(bytes(range(128)))
            assert await client.level() == 8 * (128 - 48)
            assert len(await client.read(200)) == 80
            assert await client.level() == 0
            assert await client.read(1) == b""
            bench.put(bytes(range(64)))
            assert await client.level() == 8 * 64

    asyncio.run(run())


def test_peers_that_wait_and_peers_that_ask_again_get_equal_shares(tmp_path: Path) -> None:
    """When bytes come slowly, who never waits gets as much as who always does, and nobody gets nothing."""

    async def run() -> None:
        bench = workbench()
        got = {"waits": 0, "asks": 0, "waits too": 0}

        async def wait_for_ever(name: str, client: Client) -> None:
            while True:
                got[name] += len(await client.read_waiting(64))

        async def ask_for_ever(name: str, client: Client) -> None:
            while True:
                got[name] += len(await client.read(64))

        door = bench_door(tmp_path, bench)
        async with opened(door), bench.run(), asyncio.TaskGroup() as group:
            bench.put(bytes(48))
            tasks = [
                group.create_task(wait_for_ever("waits", await Client.to(door))),
                group.create_task(ask_for_ever("asks", await Client.to(door))),
                group.create_task(wait_for_ever("waits too", await Client.to(door))),
            ]
            for given in range(64, 60 * 64, 64):
                bench.put(bytes(range(64)))
                await until(lambda given=given: sum(got.values()) >= given - 64, "the bytes were taken")
            for task in tasks:
                task.cancel()
        assert max(got.values()) <= 1.25 * min(got.values())

    asyncio.run(run())


def test_written_bytes_change_what_follows_and_count_for_nothing(tmp_path: Path) -> None:
    """Two brokers with the same noise part ways by what was written to one; neither has more for it."""

    async def drawn(salt: bytes) -> tuple[bytes, int]:
        bench = workbench()
        door = bench_door(tmp_path, bench, DrawClass.DRBG)
        async with opened(door), bench.run():
            bench.put(bytes(range(64)))
            client = await Client.to(door)
            await client.read_waiting(32)
            if salt:
                client.write(salt, bits=65535)
            return await client.read_waiting(32), len(bench.supply.reservoir)

    async def run() -> None:
        plain, salted = await drawn(b""), await drawn(b"salt")
        assert plain == await drawn(b"")
        assert plain[0] != salted[0]
        assert plain[1] == salted[1]

    asyncio.run(run())


def test_quota_is_kept_and_told_by_silence(tmp_path: Path) -> None:
    """What is left of the quota is the level; beyond it a read gets nothing, and a waiting one goes on waiting."""

    async def run() -> None:
        bench = workbench(Terms(frozenset(DrawClass), None, Allowance(100, 10**9)))
        async with opened(door := bench_door(tmp_path, bench)), bench.run():
            bench.put(bytes(range(256)) * 2)
            client = await Client.to(door)
            assert await client.level() == 800
            assert len(await client.read(255)) == 100
            assert await client.level() == 0
            assert await client.read(1) == b""
            client.writer.write(b"\x02\x01")
            assert await (await Client.to(door)).process()
            assert bench.broker.accounts["guest1"].full_bytes == 100

    asyncio.run(run())


@pytest.mark.parametrize(
    "error", [DrawRefused("never"), PermissionRefused("gone")], ids=["draw refused", "consumer gone"]
)
@pytest.mark.parametrize("request_bytes", [b"\x01\x20", b"\x02\x20"], ids=["at once", "waiting"])
def test_hopeless_peer_is_sent_away(tmp_path: Path, error: DrawwellError, request_bytes: bytes) -> None:
    """What can never be served ends the connection: a wait would have no end."""

    async def run() -> None:
        broker = FakeBroker(refuse=lambda _consumer, _n: error)
        async with opened(door := unix_door(tmp_path, broker)):
            client = await Client.to(door)
            client.writer.write(request_bytes)
            assert await client.ended() == b""

    asyncio.run(run())


def test_waiting_read_outlasts_every_passing_refusal(tmp_path: Path) -> None:
    """Starved, over its quota, without state: it tries again when told, and gets its bytes in the end."""

    async def run() -> None:
        refusals = [Starved("short", retry_after_s=0.01), QuotaExceeded("rate", retry_after_s=0.01)]
        broker = FakeBroker(refuse=lambda _consumer, _n: refusals.pop() if refusals else None)
        async with opened(door := unix_door(tmp_path, broker)):
            assert len(await (await Client.to(door)).read_waiting(16)) == 16
        assert refusals == []

    asyncio.run(run())


def test_unknown_command_ends_the_connection(tmp_path: Path) -> None:
    """Answers that are due are sent; what follows cannot be understood."""

    async def run() -> None:
        async with opened(door := unix_door(tmp_path, FakeBroker())):
            client = await Client.to(door)
            client.writer.write(b"\x04\x05\x04")
            pid = str(os.getpid()).encode()
            assert await client.ended() == bytes((len(pid),)) + pid
            assert door.counts.protocol_errors == 1

    asyncio.run(run())


def test_half_a_request_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    """Its other half is due within the deadline; a peer that asks nothing may stay."""

    async def run() -> None:
        limits = Limits(frame_deadline_s=0.1)
        door = unix_door(tmp_path, FakeBroker(), limits=limits)
        async with opened(door):
            silent, slow = await Client.to(door), await Client.to(door)
            slow.writer.write(b"\x02")
            assert await slow.ended() == b""
            assert await silent.process()
            assert door.counts.overdue == 1

    asyncio.run(run())


def test_peer_that_never_reads_is_not_served_for_ever(tmp_path: Path) -> None:
    """It is read no further when its answers pile up, and is sent away; the others notice nothing."""

    async def run() -> None:
        broker = FakeBroker()
        door = unix_door(tmp_path, broker, limits=Limits(write_deadline_s=0.2))
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
    """When it goes, its place in line goes; bytes that come later are the others'."""

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
    """The oldest connection makes room for one too many."""

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
    """EGD knows nobody, so it is not served where others could reach it."""
    with pytest.raises(ConfigError, match="only on this machine"):
        EgdDoor(where, FakeBroker(), "guest1", FULL, lambda: 0)
