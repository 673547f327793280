"""Garbage, deadlines and limits at the TLS door."""

import asyncio
import contextlib
import resource
import socket

import pytest

from drawwell.doors.door import Limits
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import LinkUnavailable
from drawwell.wire.frames import Draw, Hello
from support.certificates import PaperAuthority
from support.tls_house import House, drained


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> PaperAuthority:
    return PaperAuthority(tmp_path_factory.mktemp("ca"))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"frame type 0x47"),
        (b"\x01\xff\xff\xff", b"out of bounds"),
        (Hello((1,)).encode() + b"\x20\x01\x00\x00", b"out of bounds"),
        (Hello((9,)).encode(), b"no common version"),
        (Draw(1, DrawClass.FULL, request_id=1).encode(), b"frame type 0x10"),
        (Hello((1,)).encode() + b"\x00" * 60_000, b"frame type 0x00"),
    ],
    ids=["http", "giant", "giant call", "version", "no hello", "zeros"],
)
def test_garbage_within_tls_ends_in_a_goodbye_and_others_are_served(
    authority: PaperAuthority, data: bytes, reason: bytes
) -> None:
    """A protocol violation ends one connection, with a reason."""

    async def run() -> None:
        async with House(authority).open() as house:
            other = house.link()
            await other.draw(32, DrawClass.FULL)
            reader, writer = await house.raw()
            writer.write(data)
            said = await drained(reader)
            assert reason in said
            await other.draw(32, DrawClass.FULL)
            assert (house.door.counts.protocol_errors, house.door.counts.accepted) == (1, 2)
            await other.aclose()
            writer.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"x" * 70_000, b"\x00" * 100_000],
    ids=["http", "giant record", "zeros"],
)
def test_garbage_in_place_of_tls_is_closed(authority: PaperAuthority, data: bytes) -> None:
    """Other data than TLS gets at most an alert, and a close."""

    async def run() -> None:
        async with House(authority).open() as house:
            reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
            writer.write(data)
            assert len(await drained(reader)) <= 7
            assert house.door.counts.protocol_errors == 1
            writer.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    "data", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00"], ids=["silent", "one", "half"]
)
def test_handshake_that_does_not_come_to_its_end_is_overdue(authority: PaperAuthority, data: bytes) -> None:
    """Silence or half a hello ends at the deadline, but not a served consumer."""

    async def run() -> None:
        # short: the time is the fact
        async with House(authority, Limits(handshake_deadline_s=3.0)).open() as house:
            link = house.link()
            await link.draw(32, DrawClass.FULL)
            reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
            writer.write(data)
            assert await drained(reader) == b""
            assert (house.door.counts.overdue, house.door.half_open, house.door.sessions) == (1, 0, 1)
            await link.draw(32, DrawClass.FULL)
            await link.aclose()
            writer.close()

    asyncio.run(run())


def test_peer_that_shakes_hands_and_does_not_greet_is_overdue(authority: PaperAuthority) -> None:
    """The deadline covers handshake and welcome."""

    async def run() -> None:
        # short: the time is the fact
        async with House(authority, Limits(handshake_deadline_s=3.0)).open() as house:
            reader, writer = await house.raw()
            assert await drained(reader) == b""
            assert (house.door.counts.overdue, house.door.counts.admitted) == (1, 0)
            writer.close()

    asyncio.run(run())


def test_thousand_half_open_connections_leave_a_consumer_served(authority: PaperAuthority) -> None:
    """Of 1,000 unidentified connections 256 stay; draws continue."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.skip("needs 4,096 file descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"

    async def run() -> None:
        async with House(authority).open() as house:
            link = house.link()
            await link.draw(32, DrawClass.FULL)
            loop = asyncio.get_running_loop()
            strangers = []
            for number in range(1000):
                stranger = socket.socket()
                stranger.setblocking(False)
                await loop.sock_connect(stranger, ("127.0.0.1", house.port))
                if number % 2:
                    with contextlib.suppress(OSError):
                        await loop.sock_sendall(stranger, hello)
                strangers.append(stranger)
                if number % 100 == 0:
                    await link.draw(32, DrawClass.FULL)
            late = house.link()
            await late.draw(32, DrawClass.FULL)
            assert house.door.half_open <= 256
            assert house.door.counts.crowded_out >= 1000 - 256
            assert house.door.sessions == 2
            for stranger in strangers:
                stranger.close()
            await link.aclose()
            await late.aclose()

    asyncio.run(run())


def test_more_sessions_than_the_door_takes_are_turned_away(authority: PaperAuthority) -> None:
    """Beyond the limit new connections are refused; open ones continue."""

    async def run() -> None:
        async with House(authority, Limits(max_sessions=2)).open() as house:
            first, second, third = house.link(), house.link(), house.link()
            await first.draw(32, DrawClass.FULL)
            await second.draw(32, DrawClass.FULL)
            with pytest.raises(LinkUnavailable):
                await third.draw(32, DrawClass.FULL)
            await first.draw(32, DrawClass.FULL)
            assert house.door.counts.crowded_out == 1
            await first.aclose()
            await second.aclose()

    asyncio.run(run())


def test_consumer_that_stops_reading_is_bounded_and_closed(authority: PaperAuthority) -> None:
    """For a peer that does not read, a few large draws wait, then a close."""

    async def run() -> None:
        # short: the time is the fact
        async with House(authority, Limits(write_deadline_s=0.2)).open() as house:
            other = house.link()
            reader, writer = await house.raw()
            writer.transport.pause_reading()
            writer.write(Hello((1,)).encode())
            writer.write(
                b"".join(Draw(65536, DrawClass.DRBG, request_id=n).encode() for n in range(1, 10_000))
            )
            while house.door.counts.overdue == 0:
                await other.draw(32, DrawClass.FULL)
            taken = house.broker.drawn_bytes["web01"]
            await other.draw(32, DrawClass.FULL)
            assert taken < 32 * 2**20
            assert house.door.sessions == 1
            await other.aclose()
            writer.transport.abort()
            del reader

    asyncio.run(run())
