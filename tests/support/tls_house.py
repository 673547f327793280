"""A TLS door with its broker, registry and links."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace

from drawwell.authorisation import Principal, Role
from drawwell.doors.door import Limits
from drawwell.doors.tls import TlsDoor
from drawwell.errors import AuthenticationFailed, PermissionRefused
from drawwell.links.tls import TlsLink
from drawwell.testing.waiting import DEADLINE_S
from drawwell.wire.contexts import client_context, server_context
from support.certificates import PaperAuthority
from support.fake_broker import FakeBroker
from support.principals import consumer
from support.serving import serving

ORDINARY = Limits()


class PaperRegistry:
    """Authenticates every certificate; tests can revoke or expire it."""

    def __init__(self) -> None:
        self.revoked = False
        self.renew_only = False
        self.known = True

    async def identify(self, certificate_der: bytes) -> Principal:
        assert certificate_der
        if not self.known:
            raise AuthenticationFailed("no consumer's certificate")
        return consumer("web01", "abc")

    def check(self, principal: Principal) -> Principal:
        if self.revoked:
            raise PermissionRefused("web01 is revoked", hint="Ask for a new invitation.")
        return replace(principal, role=Role.EXPIRED) if self.renew_only else principal


class House:
    """A door with its broker, registry and links."""

    def __init__(self, authority: PaperAuthority, limits: Limits = ORDINARY, host: str = "127.0.0.1") -> None:
        self.authority = authority
        self.broker = FakeBroker()
        self.registry = PaperRegistry()
        self.files = authority.server("localhost", "127.0.0.1", "::1")
        self.door = TlsDoor(
            host,
            0,
            lambda: server_context(*self.files, renews=True),
            self.broker,
            self.registry,
            limits=limits,
        )

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator["House"]:
        async with serving(self.door), asyncio.timeout(DEADLINE_S):
            yield self

    @property
    def port(self) -> int:
        return int(self.door.address.rpartition(":")[2])

    def link(self, consumer: str = "web01", host: str = "127.0.0.1") -> TlsLink:
        files = self.authority.client(consumer)
        return TlsLink(host, self.port, context=lambda: client_context(*files))

    async def raw(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect as a peer with a valid certificate that can send any bytes."""
        context = client_context(*self.authority.client("web01"))
        return await asyncio.open_connection("localhost", self.port, ssl=context, server_hostname="localhost")


async def drained(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except (ConnectionError, ssl.SSLError):
        return b""
