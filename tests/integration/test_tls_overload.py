"""The TLS door under floods: consumers are still served."""

import asyncio
import contextlib
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from drawwell.authorisation import Principal
from drawwell.doors.admission import ARRIVAL_COST, Budget
from drawwell.doors.door import Limits
from drawwell.doors.tls import TlsDoor
from drawwell.entropy.blocks import DrawClass
from drawwell.links.tls import TlsLink
from drawwell.testing.waiting import DEADLINE_S, until
from drawwell.wire.contexts import client_context, server_context
from drawwell.wire.frames import Hello
from drawwell.wire.tls import TlsLayer
from support.certificates import PaperAuthority
from support.fake_broker import FakeBroker
from support.principals import consumer
from support.serving import serving

FLOOD, FRIEND = "127.0.0.2", "127.0.0.3"
"""Addresses of this machine from which the tests connect."""


class AnyCertificate:
    """Accepts every certificate of the CA."""

    async def identify(self, certificate_der: bytes) -> Principal:
        return consumer("web01", "abc")

    def check(self, principal: Principal) -> Principal:
        return principal


class House:
    """A door and its peers."""

    def __init__(self, folder: Path, limits: Limits = Limits()) -> None:  # noqa: B008 - frozen
        self.authority = PaperAuthority(folder)
        files = self.authority.server("localhost", "127.0.0.1")
        self.door = TlsDoor(
            "127.0.0.1",
            0,
            lambda: server_context(*files, renews=True),
            FakeBroker(),
            AnyCertificate(),
            limits=limits,
        )
        self.strangers: list[socket.socket] = []

    @property
    def port(self) -> int:
        return int(self.door.address.rpartition(":")[2])

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        async with serving(self.door), asyncio.timeout(DEADLINE_S):
            try:
                yield
            finally:
                for stranger in self.strangers:
                    stranger.close()

    def link(self) -> TlsLink:
        files = self.authority.client("web01")
        return TlsLink("127.0.0.1", self.port, context=lambda: client_context(*files))

    async def stranger(self, source: str, data: bytes = b"") -> socket.socket:
        """Connect from that address, send the data, and stay silent."""
        sock = socket.socket()
        self.strangers.append(sock)
        sock.setblocking(False)
        sock.bind((source, 0))
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, ("127.0.0.1", self.port))
        if data:
            await loop.sock_sendall(sock, data)
        return sock


def client_hello() -> bytes:
    """Return the first flight of a handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["drawwell/1"])
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing).do_handshake()
    return outgoing.read()


HELLO = client_hello()


@pytest.mark.parametrize("data", [b"", HELLO], ids=["silent", "shaking hands and stalling"])
def test_a_flood_from_one_address_crowds_out_itself(tmp_path: Path, data: bytes) -> None:
    """A flood from one address displaces only itself."""

    async def run() -> None:
        house = House(tmp_path, Limits(max_half_open=8))
        async with house.open():
            friend = await house.stranger(FRIEND, HELLO[:10])
            await until(lambda: house.door.half_open == 1, "the friend is inside")
            for _ in range(100):
                await house.stranger(FLOOD, data)
            await until(lambda: house.door.counts.crowded_out == 93, "all others of the flood are out")
            assert house.door.half_open == 8
            with pytest.raises(BlockingIOError):
                friend.recv(1)  # neither closed nor reset

    asyncio.run(run())


def test_a_consumer_joins_and_draws_through_a_flood_of_handshakes(tmp_path: Path) -> None:
    """During a flood of handshakes another address is served."""

    async def run() -> None:
        house = House(tmp_path, Limits(max_half_open=16))
        async with house.open():

            async def flood() -> None:
                while True:
                    with contextlib.suppress(OSError):
                        await house.stranger(FLOOD, HELLO)
                    if len(house.strangers) > 100:
                        house.strangers.pop(0).close()

            async with asyncio.TaskGroup() as group:
                flooding = group.create_task(flood())
                await until(lambda: house.door.counts.crowded_out > 50, "the door is crowded")
                link = house.link()
                for _ in range(20):
                    assert len((await link.draw(32, DrawClass.FULL)).data) == 32
                await link.aclose()
                flooding.cancel()

    asyncio.run(run())


def test_a_known_address_has_its_turn_before_strangers_who_came_first(tmp_path: Path) -> None:
    """With the budget spent, known addresses go first, then the others."""

    async def run() -> None:
        house = House(tmp_path)
        async with house.open():
            await _welcomed_from(house, FRIEND)
            now = asyncio.get_running_loop().time()
            budget = house.door.handshakes._budget = Budget(1.0, 0.0)
            budget.wait_s(now)
            budget.spend(1.0)
            strangers = [await house.stranger(FLOOD, HELLO) for _ in range(5)]
            known = await house.stranger(FRIEND, HELLO)
            await until(lambda: len(house.door.handshakes) == 6, "all stand in line")
            budget.spend(-1.0)
            order = await _order_of_answers([*strangers, known])
            assert order[0] is known
            assert set(order) == {*strangers, known}

    asyncio.run(run())


def test_strangers_have_their_turns_by_address(tmp_path: Path) -> None:
    """After twenty peers of one address, another address is among the first."""

    async def run() -> None:
        house = House(tmp_path)
        async with house.open():
            now = asyncio.get_running_loop().time()
            budget = house.door.handshakes._budget = Budget(1.0, 0.0)
            budget.wait_s(now)
            budget.spend(1.0)
            flood = [await house.stranger(FLOOD, HELLO) for _ in range(20)]
            await until(lambda: len(house.door.handshakes) == 20, "the flood stands in line")
            other = await house.stranger(FRIEND, HELLO)
            await until(lambda: len(house.door.handshakes) == 21, "all stand in line")
            budget.spend(-1.0)
            order = await _order_of_answers([*flood, other])
            assert order.index(other) <= 4  # answers of one iteration arrive in any order

    asyncio.run(run())


class CountingBudget(Budget):
    spent = 0.0

    def spend(self, cost: float) -> None:
        super().spend(cost)
        self.spent += cost


def test_a_connection_without_a_welcome_costs_more_arrivals(tmp_path: Path) -> None:
    """A welcomed consumer counts as one arrival, a stranger as more."""

    async def run() -> list[float]:
        house, spent = House(tmp_path), list[float]()
        async with house.open():
            budget = house.door._arrivals = CountingBudget(1.0, 10.0)
            budget.wait_s(asyncio.get_running_loop().time())
            await _welcomed_from(house, FRIEND)
            spent.append(budget.spent)
            await house.stranger(FLOOD)
            await until(lambda: house.door.half_open == 1, "it is accepted")
            return [*spent, budget.spent - 1]

    assert asyncio.run(run()) == [1.0, ARRIVAL_COST]
    assert ARRIVAL_COST > 1


async def _welcomed_from(house: House, source: str) -> None:
    """Draw once from that address."""
    files = house.authority.client("web01")
    sock = await house.stranger(source)
    _reader, writer = await asyncio.open_connection(
        sock=sock, ssl=client_context(*files), server_hostname="localhost"
    )
    writer.write(Hello((1,), "test").encode())
    await until(lambda: house.door.sessions == 1, "it is welcome")
    writer.close()
    await until(lambda: house.door.sessions == 0, "it has left")


async def _order_of_answers(peers: list[socket.socket]) -> list[socket.socket]:
    order: list[socket.socket] = []
    loop = asyncio.get_running_loop()

    async def receive(peer: socket.socket) -> None:
        assert await loop.sock_recv(peer, 65_536)
        order.append(peer)

    await asyncio.gather(*map(receive, peers))
    return order


def test_a_peer_that_leaves_the_line_is_forgotten(tmp_path: Path) -> None:
    """A peer that disconnects while waiting loses its place and turn."""

    async def run() -> None:
        house = House(tmp_path)
        async with house.open():
            budget = house.door.handshakes._budget
            budget.wait_s(asyncio.get_running_loop().time())
            budget.spend(1000.0)
            stranger = await house.stranger(FLOOD, HELLO)
            await until(lambda: len(house.door.handshakes) == 1, "it stands in line")
            stranger.close()
            await until(lambda: not house.door.half_open, "it has left")
            assert len(house.door.handshakes) == 0

    asyncio.run(run())


def test_a_peer_that_goes_on_talking_in_line_is_closed(tmp_path: Path) -> None:
    """A waiting peer can send no more bytes than a handshake may have."""

    async def run() -> None:
        house = House(tmp_path)
        async with house.open():
            budget = house.door.handshakes._budget
            budget.wait_s(asyncio.get_running_loop().time())
            budget.spend(1000.0)
            stranger = await house.stranger(FLOOD, HELLO)
            with contextlib.suppress(OSError):
                await asyncio.get_running_loop().sock_sendall(stranger, bytes(100_000))
            await until(lambda: house.door.counts.protocol_errors == 1, "it is closed")
            await until(lambda: not house.door.half_open, "it has left")

    asyncio.run(run())


def test_a_draw_does_not_wait_for_the_handshake_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop runs during a handshake step; a dropped peer is forgotten."""
    stuck, free = threading.Event(), threading.Event()
    receive = TlsLayer.receive_data

    def receive_slowly(tls: TlsLayer, data: bytes) -> None:
        if stuck.is_set() and tls._server_side:
            free.wait(DEADLINE_S)
        receive(tls, data)

    async def run() -> None:
        house = House(tmp_path)
        async with house.open():
            link = house.link()
            await link.draw(32, DrawClass.FULL)
            monkeypatch.setattr(TlsLayer, "receive_data", receive_slowly)
            stuck.set()
            await house.stranger(FLOOD, HELLO)
            await until(lambda: house.door.handshakes._steps == 1, "its step is under way")
            for _ in range(3):
                assert len((await link.draw(32, DrawClass.FULL)).data) == 32
            (stranger,) = house.door._half_open
            stranger.abort()
            await until(lambda: house.door.half_open == 0, "it is gone")
            free.set()
            await until(lambda: house.door.handshakes._steps == 0, "the step has ended")
            await link.draw(32, DrawClass.FULL)
            await link.aclose()

    asyncio.run(run())


_FEW_DESCRIPTORS = """
import asyncio, contextlib, logging, os, resource, socket, sys
from pathlib import Path
sys.path[:0] = [sys.argv[2], os.path.dirname(sys.argv[2])]
from test_tls_overload import House
from drawwell.entropy.blocks import DrawClass

logging.basicConfig(format="%(message)s")

async def run():
    house = House(Path(sys.argv[1]))
    async with house.open():
        link = house.link()
        await link.draw(32, DrawClass.FULL)
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", sys.argv[3], str(house.port), stdin=-1, stdout=-1)
        await child.stdout.readline()
        for _ in range(20):
            await link.draw(32, DrawClass.FULL)
            await asyncio.sleep(0)
        used = house.door.half_open
        child.stdin.close()
        await child.wait()
        late = house.link()
        while True:
            with contextlib.suppress(Exception):
                await late.draw(32, DrawClass.FULL)
                break
            await asyncio.sleep(0.05)  # short: between two looks
        print("served to the end", used)

resource.setrlimit(resource.RLIMIT_NOFILE, (48, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
asyncio.run(run())
"""
_CROWD = """
import resource, socket, sys
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
crowd = [socket.create_connection(("127.0.0.1", int(sys.argv[1]))) for _ in range(100)]
print("here", flush=True)
sys.stdin.read()
"""


def test_a_door_without_a_descriptor_left_serves_on_and_logs_it_once(tmp_path: Path) -> None:
    """Without free descriptors open sessions are served, others later."""
    argv = [sys.executable, "-c", _FEW_DESCRIPTORS, str(tmp_path), os.path.dirname(__file__), _CROWD]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.stdout.startswith("served to the end"), done.stderr
    said = [line for line in done.stderr.splitlines() if "cannot accept more connections" in line]
    assert len(said) == 1, done.stderr
    assert "all 48 file descriptors are in use" in said[0]
    assert "Traceback" not in done.stderr
