"""The stream of one consumer, with socat and other readers."""

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable

import pytest

from drawwell.authorisation import Principal, Role
from drawwell.broker.account import Terms
from drawwell.crypto import pki
from drawwell.doors.door import Limits
from drawwell.doors.tls import TlsDoor
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import DrawRefused, DrawwellError, PermissionRefused, Starved
from drawwell.links.tls import TlsLink
from drawwell.testing.waiting import DEADLINE_S, until
from drawwell.wire.contexts import client_context, server_context
from support.certificates import PaperAuthority
from support.fake_broker import FakeBroker
from support.serving import serving

SOCAT = shutil.which("socat")
FULL = DrawClass.FULL


class NameRegistry:
    """Identifies peers by certificate, until revoked or expired."""

    def __init__(self) -> None:
        self.revoked: set[str] = set()
        self.role = Role.CONSUMER

    async def identify(self, certificate_der: bytes) -> Principal:
        name = pki.consumer_name(pki.read_certificate(certificate_der))
        assert name
        return Principal(self.role, name)

    def check(self, principal: Principal) -> Principal:
        if principal.name in self.revoked:
            raise PermissionRefused(f"{principal.name} is revoked")
        return Principal(self.role, principal.name)


class House:
    """A TLS door that streams to web01 only."""

    def __init__(
        self, authority: PaperAuthority, refuse: Callable[[str, int], DrawwellError | None] | None = None
    ) -> None:
        self.authority = authority
        self.broker = FakeBroker(refuse=refuse)
        self.registry = NameRegistry()
        self.classes = {"web01": FULL}
        files = authority.server("localhost", "127.0.0.1")
        self.door = TlsDoor(
            "127.0.0.1",
            0,
            lambda: server_context(*files),
            self.broker,
            self.registry,
            streams=self.classes.get,
            limits=Limits(write_deadline_s=0.2, frame_deadline_s=0.2),  # short: several of the deadlines
        )

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator["House"]:
        async with serving(self.door), asyncio.timeout(DEADLINE_S):
            yield self

    @property
    def port(self) -> int:
        return int(self.door.address.rpartition(":")[2])

    def context(self, consumer: str, *protocols: str) -> ssl.SSLContext:
        """Return the context of a client other than drawwell."""
        certificate, key, ca = self.authority.client(consumer)
        context = ssl.create_default_context(cafile=ca)
        context.load_cert_chain(certificate, key)
        if protocols:
            context.set_alpn_protocols(list(protocols))
        return context

    async def reader(
        self, consumer: str, *protocols: str
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = self.context(consumer, *protocols)
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # soon full
        plain.setblocking(False)
        await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", self.port))
        return await asyncio.open_connection(sock=plain, ssl=context, server_hostname="localhost", limit=1024)

    def socat(self, consumer: str = "web01") -> str:
        """Return socat's address for this door."""
        certificate, key, ca = self.authority.client(consumer)
        return f"OPENSSL:127.0.0.1:{self.port},cert={certificate},key={key},cafile={ca},openssl-commonname=localhost"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> PaperAuthority:
    return PaperAuthority(tmp_path_factory.mktemp("ca"))


async def drained(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except (ConnectionError, ssl.SSLError):
        return b""


def pieces(data: bytes) -> list[int]:
    """Return the serial numbers of complete 64-byte grants by FakeBroker."""
    return [int.from_bytes(data[i : i + 8], "big") for i in range(0, len(data) - 63, 64)]


def test_consumer_with_a_stream_reads_bytes_each_once(authority: PaperAuthority) -> None:
    """A silent peer gets its drawn bytes once and in order."""

    async def run() -> None:
        async with House(authority).open() as house:
            reader, writer = await house.reader("web01")
            data = await reader.readexactly(64 * 500)
            assert pieces(data) == list(range(1, 501))
            writer.transport.abort()
            await until(lambda: not house.door.sessions, "the door saw it go")
            assert set(house.broker.drawn_bytes) == {"web01"}

    asyncio.run(run())


@pytest.mark.parametrize("protocols", [(), ("h2",)])
def test_others_get_no_byte_without_our_protocol(
    authority: PaperAuthority, protocols: tuple[str, ...]
) -> None:
    """A consumer without a stream is disconnected, and nothing is drawn."""

    async def run() -> None:
        async with House(authority).open() as house:
            reader, writer = await house.reader("db01", *protocols)
            assert await drained(reader) == b""
            writer.close()
            assert house.broker.serial == 0
            assert house.door.counts.protocol_errors == 1

    asyncio.run(run())


def test_consumer_with_a_stream_still_speaks_our_protocol(authority: PaperAuthority) -> None:
    """With ALPN the consumer has a normal session and no stream."""

    async def run() -> None:
        async with House(authority).open() as house:
            files = authority.client("web01")
            link = TlsLink("127.0.0.1", house.port, context=lambda: client_context(*files))
            assert len((await link.draw(100, FULL)).data) == 100
            await link.aclose()
            assert house.broker.drawn_bytes == {"web01": 100}

    asyncio.run(run())


def test_certificate_that_ran_out_is_streamed_nothing(authority: PaperAuthority) -> None:
    """A renew-only peer is disconnected, because a stream cannot renew."""

    async def run() -> None:
        async with House(authority).open() as house:
            house.registry.role = Role.EXPIRED
            reader, writer = await house.reader("web01")
            assert await drained(reader) == b""
            writer.close()
            assert house.broker.serial == 0

    asyncio.run(run())


@pytest.mark.parametrize("how", ["revoked", "switched off", "run out", "refused"])
def test_stream_ends_in_order_when_it_may_not_go_on(authority: PaperAuthority, how: str) -> None:
    """All sent bytes arrive, then close_notify; nothing more is drawn."""

    async def run() -> None:
        refusals: list[DrawwellError] = []
        house = House(authority, refuse=lambda _consumer, _n: refusals[0] if refusals else None)
        async with house.open():
            reader, writer = await house.reader("web01")
            begun = await reader.readexactly(64)
            match how:
                case "revoked":
                    house.registry.revoked.add("web01")
                case "switched off":
                    house.classes.clear()
                case "run out":
                    house.registry.role = Role.EXPIRED
                case _:
                    refusals.append(DrawRefused("never again"))
            data = begun + await reader.read()
            writer.close()
            assert pieces(data) == list(range(1, house.broker.serial + 1))

    asyncio.run(run())


def test_starved_stream_waits_and_goes_on(authority: PaperAuthority) -> None:
    """The stream waits silently until a refusal is over."""

    async def run() -> None:
        refusals = [Starved("short", retry_after_s=0.01) for _ in range(3)]
        house = House(authority, refuse=lambda _consumer, _n: refusals.pop() if refusals else None)
        async with house.open():
            reader, writer = await house.reader("web01")
            assert pieces(await reader.readexactly(128)) == [1, 2]
            writer.transport.abort()
        assert refusals == []

    asyncio.run(run())


def test_reader_that_rests_is_waited_for_and_takes_little(authority: PaperAuthority) -> None:
    """An idle reader stays connected past all deadlines, without losses."""

    async def run() -> None:
        async with House(authority).open() as house:
            reader, writer = await house.reader("web01")
            data = await reader.readexactly(64)
            await _until_still(house)
            held = house.broker.serial
            assert held < 2**20 // 64
            other, other_writer = await house.reader("web01")
            assert len(await other.readexactly(64)) == 64
            other_writer.transport.abort()
            assert house.door.counts.overdue == 0
            data += await reader.readexactly(64 * (held - 1))
            assert pieces(data) == list(range(1, held + 1))
            writer.transport.abort()

    asyncio.run(run())


async def _until_still(house: House) -> None:
    """Wait until nothing was drawn for several deadlines."""
    drawn = -1
    while drawn != house.broker.serial:
        drawn = house.broker.serial
        await asyncio.sleep(1.0)  # short: several of the deadlines


@pytest.mark.skipif(SOCAT is None, reason="socat is not installed")
@pytest.mark.parametrize("option", [["-u"], []], ids=["one way", "both ways"])
def test_socat_reads_the_stream(authority: PaperAuthority, option: list[str]) -> None:
    """socat OPENSSL writes the drawn bytes, and exits with 0 at the end."""

    async def run() -> None:
        async with House(authority).open() as house:
            command, pipe = [SOCAT, *option, house.socat(), "-"], asyncio.subprocess.PIPE
            socat = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
            assert socat.stdout is not None
            assert socat.stdin is not None
            socat.stdin.write(b"what a reader sends goes nowhere")
            data = await socat.stdout.readexactly(64 * 100)
            house.registry.revoked.add("web01")
            data += await socat.stdout.read()
            assert await socat.wait() == 0
            assert pieces(data) == list(range(1, house.broker.serial + 1))

    asyncio.run(run())


@pytest.mark.skipif(SOCAT is None, reason="socat is not installed")
def test_socat_of_another_consumer_reads_nothing(authority: PaperAuthority) -> None:
    """Without its own stream the consumer is disconnected."""

    async def run() -> None:
        async with House(authority).open() as house:
            command = [SOCAT, "-u", house.socat("db01"), "-"]
            done = await asyncio.to_thread(
                subprocess.run, command, capture_output=True, check=False, timeout=DEADLINE_S
            )
            assert done.stdout == b""
            assert house.broker.serial == 0

    asyncio.run(run())


def test_terms_say_which_class_is_streamed() -> None:
    """The class is full if allowed, else drbg; without a stream, none."""
    both, drbg = frozenset(DrawClass), frozenset({DrawClass.DRBG})
    assert Terms(both, None, None).stream_class is None
    assert Terms(both, None, None, stream=True).stream_class is DrawClass.FULL
    assert Terms(drbg, None, None, stream=True).stream_class is DrawClass.DRBG
