"""HTTP at the TLS door: selected by ALPN, with the same checks."""

import asyncio
import json
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drawwell.authorisation import Principal, Role
from drawwell.doors.door import Limits
from drawwell.doors.tls import TlsDoor
from drawwell.errors import PermissionRefused
from drawwell.testing.waiting import DEADLINE_S
from drawwell.wire.contexts import server_context
from support.certificates import PaperAuthority
from support.fake_broker import FakeBroker
from support.principals import consumer
from support.serving import serving

HOST = b" HTTP/1.1\r\nHost: x\r\n\r\n"
Story = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


class Registry:
    """Authenticates web01 until it is revoked; can report it as expired."""

    renew_only = revoked = False

    async def identify(self, _certificate_der: bytes) -> Principal:
        return consumer("web01")

    def check(self, principal: Principal) -> Principal:
        if self.revoked:
            raise PermissionRefused("web01 is revoked")
        return replace(principal, role=Role.EXPIRED) if self.renew_only else principal


class House:
    """A TLS door and a client with a certificate."""

    def __init__(self, folder: Path, limits: Limits = Limits()) -> None:  # noqa: B008
        authority = PaperAuthority(folder)
        files, client = authority.server("localhost"), authority.client("web01")
        self.broker, self.registry = FakeBroker(), Registry()
        self.broker.results["status"] = {"ready": True, "not_ready_because": ""}
        self.door = TlsDoor(
            "127.0.0.1",
            0,
            lambda: server_context(*files, renews=True),
            self.broker,
            self.registry,
            limits=limits,
        )
        self.context = ssl.create_default_context(cafile=authority.ca)
        self.context.load_cert_chain(*client[:2])

    def run(self, story: Story, *protocols: str) -> None:
        """Run a scenario with a client that offers these protocols."""
        self.context.set_alpn_protocols(list(protocols or ("http/1.1",)))

        async def run() -> None:
            async with serving(self.door), asyncio.timeout(DEADLINE_S):
                port = int(self.door.address.rpartition(":")[2])
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", port, ssl=self.context, server_hostname="localhost"
                )
                await story(reader, writer)
                writer.close()

        asyncio.run(run())


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Return the next answer: status and body."""
    head = await reader.readuntil(b"\r\n\r\n")
    (length,) = [line.split(b": ")[1] for line in head.split(b"\r\n") if line.startswith(b"Content-Length")]
    return int(head.split()[1]), await reader.readexactly(int(length))


def test_pipelined_draws_are_answered_in_order(tmp_path) -> None:
    """Requests in one record are answered in order, even large answers."""
    house = House(tmp_path)

    async def story(reader, writer) -> None:
        writer.write((b"GET /v1/draw?bytes=65536" + HOST + b"GET /v1/draw?bytes=8" + HOST) * 20)
        for number in range(20):
            assert len((await answer(reader))[1]) == 65536
            assert (await answer(reader))[1] == (2 * number + 2).to_bytes(8, "big")

    house.run(story)


@pytest.mark.parametrize("offered", [("drawwell/1", "http/1.1"), ("http/1.1", "drawwell/1")])
def test_our_own_protocol_goes_first(tmp_path, offered) -> None:
    """A client that offers both gets drawwell/1, where HTTP is a violation."""
    house = House(tmp_path)

    async def story(reader, writer) -> None:
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "drawwell/1"
        writer.write(b"GET /v1/draw" + HOST)
        assert not (await reader.read()).startswith(b"HTTP")

    house.run(story, *offered)
    assert house.broker.drawn_bytes == {}


def test_revoked_consumer_gets_403_and_the_end(tmp_path) -> None:
    """A revocation applies from the next request on an open connection."""
    house = House(tmp_path)

    async def story(reader, writer) -> None:
        writer.write(b"GET /v1/draw" + HOST)
        assert (await answer(reader))[0] == 200
        house.registry.revoked = True
        writer.write(b"GET /v1/draw" + HOST)
        status, body = await answer(reader)
        assert (status, json.loads(body)["kind"]) == (403, "PermissionRefused")
        assert await reader.read() == b""

    house.run(story)


def test_certificate_that_ran_out_draws_nothing(tmp_path) -> None:
    """In the grace period HTTP serves only public paths, without renewal."""
    house = House(tmp_path)
    house.registry.renew_only = True

    async def story(reader, writer) -> None:
        for target, expected in ((b"/v1/draw", 403), (b"/v1/status", 403), (b"/readyz", 200)):
            writer.write(b"GET " + target + HOST)
            assert (await answer(reader))[0] == expected

    house.run(story)
    assert house.broker.drawn_bytes == {}


@pytest.mark.parametrize("first", [b"", b"GET /v1/dr"])
def test_client_that_never_asks_is_dropped(tmp_path, first: bytes) -> None:
    """A certificate does not extend the deadline of the first request."""
    house = House(tmp_path, Limits(handshake_deadline_s=2.0))  # short: the time is the fact

    async def story(reader, writer) -> None:
        writer.write(first)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError, ssl.SSLError)):
            await answer(reader)

    house.run(story)
    assert house.door.counts.overdue == 1


def test_consumer_that_drips_later_is_dropped(tmp_path) -> None:
    """A later request has a frame's deadline from its first byte."""
    house = House(tmp_path, Limits(frame_deadline_s=0.1))  # short: the time is the fact

    async def story(reader, writer) -> None:
        writer.write(b"GET /v1/draw" + HOST)
        assert (await answer(reader))[0] == 200
        writer.write(b"GET /v1/dr")
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError, ssl.SSLError)):
            await answer(reader)

    house.run(story)
    assert house.door.counts.overdue == 1


def test_connections_of_one_consumer_are_bounded(tmp_path) -> None:
    """At the limit, a new connection closes the consumer's oldest."""
    house = House(tmp_path, Limits(max_sessions_each=2))

    async def story(reader, writer) -> None:
        writer.write(b"GET /v1/draw" + HOST)
        assert (await answer(reader))[0] == 200
        port = int(house.door.address.rpartition(":")[2])
        others = []
        for _ in range(2):
            others.append(
                await asyncio.open_connection(
                    "127.0.0.1", port, ssl=house.context, server_hostname="localhost"
                )
            )
            others[-1][1].write(b"GET /v1/draw" + HOST)
            assert (await answer(others[-1][0]))[0] == 200
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError, ssl.SSLError)):
            await answer(reader)
        for _, other in others:
            other.close()

    house.run(story)
    assert house.door.counts.crowded_out == 1
