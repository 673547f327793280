"""The loop's time is shared among consumers, not sessions."""

import asyncio
import hashlib
import os
import socket
from pathlib import Path
from typing import Any

from drawwell.authorisation import Principal, Role
from drawwell.crypto import pki
from drawwell.entropy.blocks import DrawClass, DrawRequest, Grant
from drawwell.links.tls import TlsLink
from drawwell.testing.waiting import DEADLINE_S, until
from drawwell.wire.contexts import client_context
from drawwell.wire.frames import Call, Draw, Hello
from drawwell.wire.tls import TlsLayer
from support.certificates import PaperAuthority
from support.fake_broker import FakeBroker
from support.key_updates import client_secret, key_updates
from support.tls_house import House, PaperRegistry

SESSIONS = 30
AHEAD = 400
"""Draws that each session sends at once, more than can be served meanwhile."""


REKEYING, KEY_UPDATES = 8, 3000
CALLS = 32
FLOOD = b"".join(Draw(1, DrawClass.DRBG, request_id=each + 1).encode() for each in range(AHEAD))


class NamingRegistry(PaperRegistry):
    """Identifies each peer by the name in its certificate."""

    async def identify(self, certificate_der: bytes) -> Principal:
        return Principal(Role.CONSUMER, pki.consumer_name(pki.read_certificate(certificate_der)) or "")


class WorkingBroker(FakeBroker):
    """Works a little for each draw, and records its consumer."""

    def __init__(self) -> None:
        super().__init__()
        self.order: list[str] = []
        self.tasks: list[int] = []
        """The number of tasks at each call."""

    def try_draw(self, principal: Principal, request: DrawRequest) -> Grant | None:
        self.order.append(principal.name)
        hashlib.sha256(bytes(100_000)).digest()
        return super().try_draw(principal, request)

    async def call(self, principal: Principal, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        self.tasks.append(len(asyncio.all_tasks()))
        return await super().call(principal, verb, args)


class BusyHouse(House):
    """A house with two consumers."""

    def __init__(self, authority: PaperAuthority) -> None:
        super().__init__(authority)
        self.door.registry = self.registry = NamingRegistry()
        self.door.broker = self.broker = self.working = WorkingBroker()


async def greedy_session(house: BusyHouse) -> asyncio.StreamWriter:
    """Open a session of the consumer greedy."""
    context = client_context(*house.authority.client("greedy"))
    _, writer = await asyncio.open_connection(
        "localhost", house.port, ssl=context, server_hostname="localhost"
    )
    writer.write(Hello((1,)).encode())
    return writer


def rekeying_session(house: BusyHouse, log: Path) -> tuple[socket.socket, bytes]:
    """Open a session of greedy; return its socket and its flood."""
    context = client_context(*house.authority.client("greedy"))
    context.keylog_filename = str(log)
    plain = socket.create_connection(("localhost", house.port), DEADLINE_S)
    with context.wrap_socket(plain, server_hostname="localhost") as link:
        link.sendall(Hello((1,)).encode())
        assert link.recv(4096)
        raw = socket.socket(fileno=os.dup(link.fileno()))
        raw.setblocking(False)
        return raw, key_updates(client_secret(log, link), 1, KEY_UPDATES)


def test_a_flood_over_many_sessions_delays_another_consumer_by_a_turn(tmp_path: Path) -> None:
    """Between two draws of one consumer, another gets only its share."""

    async def run() -> list[str]:
        house = BusyHouse(PaperAuthority(tmp_path))
        async with house.open():
            link: TlsLink = house.link("modest")
            await link.draw(1, DrawClass.DRBG)
            writers = [await greedy_session(house) for _ in range(SESSIONS)]
            for writer in writers:
                writer.write(FLOOD)
            await until(lambda: house.working.order.count("greedy") >= SESSIONS, "the flood has begun")
            house.working.order.clear()
            for _ in range(20):
                await link.draw(1, DrawClass.DRBG)
            await link.aclose()
            for writer in writers:
                writer.transport.abort()
        return house.working.order

    order = asyncio.run(run())
    runs = [len(each) for each in "".join(name[0] for name in order).split("m")]
    assert max(runs) < SESSIONS * 16, "one turn of each session would be more"
    assert sum(runs) > 0, "the flood was over before"


def test_a_turn_begins_only_the_calls_that_fit_in_it(tmp_path: Path) -> None:
    """The tasks of many calls do not all run between two polls."""

    async def run() -> list[int]:
        house = BusyHouse(PaperAuthority(tmp_path))
        async with house.open():
            writer = await greedy_session(house)
            await until(lambda: house.door.consumers, "greedy is admitted")
            writer.write(b"".join(Call(each + 1, "status", {}).encode() for each in range(CALLS)))
            await until(lambda: len(house.working.tasks) == CALLS, "all calls have begun")
            writer.transport.abort()
        return house.working.tasks

    tasks = asyncio.run(run())
    assert max(tasks) - min(tasks) < CALLS / 4


def test_a_flood_of_key_updates_delays_another_consumer_by_a_turn(tmp_path: Path, monkeypatch) -> None:
    """Between two draws of one consumer, only few bytes are read."""
    order: list[int] = []
    read = TlsLayer.read

    def noting_read(layer: TlsLayer, data: bytes | memoryview = b"") -> bytes:
        plaintext = read(layer, data)
        order.append(0 if plaintext else len(data))
        return plaintext

    async def run() -> None:
        house = BusyHouse(PaperAuthority(tmp_path))
        async with house.open(), asyncio.TaskGroup() as group:
            link: TlsLink = house.link("modest")
            await link.draw(1, DrawClass.DRBG)
            log = tmp_path / "keys.log"
            floods = [await asyncio.to_thread(rekeying_session, house, log) for _ in range(REKEYING)]
            monkeypatch.setattr(TlsLayer, "read", noting_read)
            loop = asyncio.get_running_loop()
            sending = [group.create_task(loop.sock_sendall(raw, records)) for raw, records in floods]
            await until(lambda: sum(order) > 0, "the flood has begun")
            order.clear()
            for _ in range(200):  # many rounds: a debt lasts ten
                await link.draw(1, DrawClass.DRBG)
            await link.aclose()
            for task, (raw, _) in zip(sending, floods, strict=True):
                task.cancel()
                raw.close()

    asyncio.run(run())
    runs = [sum(each) for each in split_at_zero(order)]
    assert max(runs) < REKEYING * 32_768, "each session would have half of a large read"
    assert sum(runs) > 0, "the flood was over before"


def split_at_zero(sizes: list[int]) -> list[list[int]]:
    runs: list[list[int]] = [[]]
    for size in sizes:
        runs[-1].append(size) if size else runs.append([])
    return runs
