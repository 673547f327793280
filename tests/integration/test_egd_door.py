"""The EGD door over real sockets: commands and peers."""

import asyncio
import os
import socket
from pathlib import Path

import pytest

from drawwell.broker.account import Terms
from drawwell.doors.egd import EgdDoor
from drawwell.entropy.blocks import DrawClass
from drawwell.testing.waiting import until
from drawwell.units import Allowance
from integration.egd_client import FULL, Client, bench_door, opened, unix_door, workbench
from support.fake_broker import FakeBroker


@pytest.mark.parametrize("where", ["unix", "127.0.0.1:0", "[::1]:0"])
def test_all_five_commands_are_answered(tmp_path: Path, where: str) -> None:
    """The commands are level, both reads, a write and the process ID."""

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
    """A thousand requests in one write are answered in order."""

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
    """Count and bytes are sent in one packet."""

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
    """A blocking read delays only later requests of the same peer."""

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
    """The level is the reservoir's content beyond the next seed."""

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
    """Polling and waiting peers get equal shares of a slow source."""

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
    """Written bytes make two brokers differ, but earn no credit."""

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


def test_reads_beyond_the_quota_wait_without_an_answer(tmp_path: Path) -> None:
    """The level is the rest of the quota; further reads get no bytes."""

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
