"""The enrolment listener: open only while an invitation is pending, for one request and one reply each.

The certificate that it shows is the CA's own, so that the handshake proves to the joiner that whoever holds the
hash in its token is at the other end. The joiner proves itself by the token's secret.
"""

import asyncio
import ipaddress
import logging
import socket
import ssl
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from drawwell.doors.sockets import listen_tcp
from drawwell.enrolment.admin import ConsumerAdmin
from drawwell.errors import ConfigError, PermissionRefused, RemoteProtocolError, StateUnavailable
from drawwell.service.faults import log_fault
from drawwell.wire.enrolment import (
    LIMIT_BYTES,
    PREFIX_BYTES,
    JoinRefusal,
    JoinReply,
    body_length,
    encode_message,
    parse_request,
)
from drawwell.wire.tls import require_strength

DEADLINE_S: Final = 10.0
"""From the connection to the end of the reply."""
RETRY_S: Final = 5.0
MAX_AT_ONCE: Final = 8
MAX_AT_ONCE_EACH: Final = 2
MAX_PER_MINUTE: Final = 60
MAX_PER_MINUTE_EACH: Final = 10

log = logging.getLogger(__name__)


class EnrolDoor:
    """Listens while `admin` has a pending invitation. `ready` is set while it listens, `shut` while it does not.

    Args:
        admin: Answers the requests.
        host: Address to listen on, ``*`` for all.
        port: Port to listen on.
        certificate: Path of the CA's certificate.
        key: Path of the CA's key.
        clock: As the admin's.
    """

    def __init__(
        self,
        admin: ConsumerAdmin,
        host: str,
        port: int,
        *,
        certificate: str,
        key: str,
        clock: Callable[[], float],
    ) -> None:
        self._admin = admin
        self._address = (host, port)
        self._clock = clock
        self._context = _context(certificate, key)
        self._admission = Admission()
        self._accepting: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()
        self.ready, self.shut = asyncio.Event(), asyncio.Event()
        self.answered: Callable[[str, str], None] = lambda _consumer, _refused: None
        """Told who joined, or why somebody did not."""
        self._tasks: asyncio.TaskGroup | None = None
        self._adjusting = asyncio.Lock()
        admin.listeners.append(self._told)

    async def serve(self) -> None:
        """Open and shut as invitations come and go, until cancelled. A port that is taken is tried again."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                while True:
                    self._changed.clear()
                    wait_s = await self._follow()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(wait_s):
                            await self._changed.wait()
            finally:
                self._tasks = None
                await self._shut()

    async def _told(self, _name: str) -> None:
        """Follow a change before its asker is answered, who thus hears why the door cannot open."""
        if self._tasks is not None:
            await self._adjust(self._tasks)
            self._changed.set()

    async def _follow(self) -> float | None:
        """Be open or shut as invitations demand; return how long that holds at most."""
        assert self._tasks is not None  # noqa: S101  called by serve alone
        try:
            until = await self._adjust(self._tasks)
        except (StateUnavailable, ConfigError, PermissionRefused) as error:
            log.warning("enrolment: %s", error)
            return RETRY_S
        return None if until is None else max(0.0, until - self._clock())

    async def _adjust(self, tasks: asyncio.TaskGroup) -> float | None:
        async with self._adjusting:
            until = await asyncio.to_thread(self._admin.pending_until)
            if until is None:
                await self._shut()
            else:
                self._open(tasks)
            return until

    def _open(self, tasks: asyncio.TaskGroup) -> None:
        if not self._accepting:
            sockets = listen_tcp(*self._address)
            self._accepting = [tasks.create_task(self._accept(listener, tasks)) for listener in sockets]
            self.shut.clear()
            self.ready.set()

    async def _shut(self) -> None:
        for task in self._accepting:
            task.cancel()
        if self._accepting:
            await asyncio.wait(self._accepting)
        self._accepting = []
        self.ready.clear()
        self.shut.set()

    async def _accept(self, listener: socket.socket, tasks: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
        with listener:
            while True:
                try:
                    peer, address = await loop.sock_accept(listener)
                except OSError as error:  # out of descriptors, or the peer is gone already
                    log.warning("enrolment: %s", error)
                    await asyncio.sleep(RETRY_S)
                    continue
                origin = origin_of(address[0])
                if self._admission.enter(origin, loop.time()):
                    tasks.create_task(self._serve_one(peer, origin))
                else:
                    peer.close()

    async def _serve_one(self, peer: socket.socket, origin: str) -> None:
        try:
            async with asyncio.timeout(DEADLINE_S):
                await self._converse(peer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, RemoteProtocolError) as error:
            log.info("enrolment from %s ended: %s", origin, str(error) or type(error).__name__)
        except Exception as error:  # noqa: BLE001 - whatever it is: the broker goes on
            log_fault(f"an enrolment from {origin}", error)
        finally:
            peer.close()
            self._admission.leave(origin)

    async def _converse(self, peer: socket.socket) -> None:
        reader = asyncio.StreamReader(limit=LIMIT_BYTES)
        protocol = asyncio.StreamReaderProtocol(reader)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, peer, ssl=self._context)
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        try:
            require_strength(transport.get_extra_info("ssl_object"))
            length = body_length(await reader.readexactly(PREFIX_BYTES))
            writer.write(encode_message(await self._answer(await reader.readexactly(length))))
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        finally:
            transport.abort()

    async def _answer(self, body: bytes) -> JoinReply | JoinRefusal:
        try:
            reply = await asyncio.to_thread(self._admin.redeem, parse_request(body))
        except StateUnavailable as error:
            log.warning("enrolment: %s", error)
            return JoinRefusal("unavailable", "the broker cannot write its state")
        if isinstance(reply, JoinReply):
            log.info("consumer %s joined", reply.consumer)
            self.answered(reply.consumer, "")
            self._changed.set()
        else:
            self.answered("", reply.reason)
        return reply


class Admission:
    """Counts connections, in all and by origin, and says which are too many."""

    def __init__(self) -> None:
        self._inside: Counter[str] = Counter()
        self._recent: deque[tuple[float, str]] = deque()

    def enter(self, origin: str, now: float) -> bool:
        """Let one in, or not; whoever was let in must `leave`."""
        while self._recent and self._recent[0][0] <= now - 60:
            self._recent.popleft()
        recent = sum(other == origin for _, other in self._recent)
        if (
            self._inside.total() >= MAX_AT_ONCE
            or self._inside[origin] >= MAX_AT_ONCE_EACH
            or len(self._recent) >= MAX_PER_MINUTE
            or recent >= MAX_PER_MINUTE_EACH
        ):
            return False
        self._inside[origin] += 1
        self._recent.append((now, origin))
        return True

    def leave(self, origin: str) -> None:
        """Count one out."""
        self._inside -= Counter([origin])


def origin_of(host: str) -> str:
    """Return whom to count a peer as: its IPv4 address, or the /64 network of its IPv6 address (RFC 4291, 2.5.4)."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def _context(certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # one request a connection: nothing to resume
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"the authority's certificate {certificate} and key: {error}") from error
    return context
