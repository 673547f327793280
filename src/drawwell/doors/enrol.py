"""The enrolment door: one request and one reply per connection.

The door stays open until the last invitation expires, even if all invitations have been used.
So a second peer with the same token learns which address used the token. The door sends its
certificate with the chain up to the root; the token contains the root's hash and the secret
with which peers authenticate.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from drawwell.doors.admission import Handshakes
from drawwell.doors.enrol_places import JoiningPeer, one_too_many
from drawwell.doors.sockets import listen_tcp
from drawwell.enrolment.admin import ConsumerAdmin
from drawwell.errors import ConfigError, PermissionRefused, RemoteProtocolError, StateUnavailable
from drawwell.service.faults import log_fault
from drawwell.service.readiness import readable
from drawwell.state.rows import USED
from drawwell.wire.enrolment import (
    LIMIT_BYTES,
    PREFIX_BYTES,
    FleetReply,
    JoinRefusal,
    JoinReply,
    body_length,
    encode_message,
    parse_request,
)
from drawwell.wire.tls import require_strength

DEADLINE_S: Final = 10.0
"""The time limit from the connection to the end of the reply."""
RETRY_S: Final = 5.0
MAX_AT_ONCE: Final = 64
HANDSHAKE_COST_S: Final = 0.005
"""CPU time charged for a handshake and its reply: HANDSHAKE_SHARE allows 30 per second."""

log = logging.getLogger(__name__)


class EnrolDoor:
    """The enrolment door, open until the last invitation of `admin` expires.

    `ready` is set while the door listens, and `shut` is set while it does not.

    Args:
        admin: Answers the requests.
        host: The address to listen on, ``*`` for all.
        port: The port to listen on.
        files: Returns the paths of the certificate and the key, renewed if due.
        clock: The admin's clock.
        answered: Called with the new consumer (or ""), the peer's address and any refusal.
    """

    def __init__(
        self,
        admin: ConsumerAdmin,
        host: str,
        port: int,
        *,
        files: Callable[[], tuple[str, str]],
        clock: Callable[[], float],
        answered: Callable[[str, str, str], None] = lambda _consumer, _host, _refused: None,
    ) -> None:
        self._admin = admin
        self._answered = answered
        self._address = (host, port)
        self._clock = clock
        self._files = files
        self._context: ssl.SSLContext | None = None
        self._handshakes = Handshakes(known=lambda _address: False)
        self._inside: dict[JoiningPeer, asyncio.Task[None]] = {}
        self._alarm = ""
        self._accepting: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()
        self.ready, self.shut = asyncio.Event(), asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        self._adjusting = asyncio.Lock()
        admin.listeners.append(self.follow)

    def remark(self) -> str:
        """Return a note if a used invitation was tried again, else ""."""
        return self._alarm

    async def serve(self) -> None:
        """Open and close as invitations require until cancelled; retry on errors."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                while True:
                    self._changed.clear()
                    wait_s = await self._until_next()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(wait_s):
                            await self._changed.wait()
            finally:
                self._tasks = None
                await self._shut()

    async def follow(self, _name: str = "") -> None:
        """Open or close the door after a consumer changes; report any error."""
        self._alarm = ""
        if self._tasks is not None:
            await self._adjust(self._tasks)
            self._changed.set()

    async def _until_next(self) -> float | None:
        """Open or close as required; return the time until the next change."""
        assert self._tasks is not None  # noqa: S101  called only by serve
        try:
            until = await self._adjust(self._tasks)
        except (StateUnavailable, ConfigError, PermissionRefused) as error:
            log.warning("enrolment: %s", error)
            return RETRY_S
        return None if until is None else max(0.0, until - self._clock())

    async def _adjust(self, tasks: asyncio.TaskGroup) -> float | None:
        async with self._adjusting:
            until = await asyncio.to_thread(self._admin.open_until)
            if until is None:
                await self._shut()
            else:
                self._context = _context(*await asyncio.to_thread(self._files))
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
                except OSError as error:  # no file descriptor left, or the peer has closed
                    log.warning("enrolment: %s", error)
                    await asyncio.sleep(RETRY_S)
                    continue
                self._admit(JoiningPeer(peer, address[0], loop.time()), tasks)

    def _admit(self, joining: JoiningPeer, tasks: asyncio.TaskGroup) -> None:
        """Serve a peer; if there are too many peers, drop one."""
        task = self._inside[joining] = tasks.create_task(self._serve_one(joining))
        task.add_done_callback(lambda _: self._left(joining))
        if len(self._inside) > MAX_AT_ONCE:
            crowded_out = one_too_many(self._inside, asyncio.get_running_loop().time())
            self._inside.pop(crowded_out).cancel()

    def _left(self, joining: JoiningPeer) -> None:
        joining.peer.close()
        self._handshakes.leave(joining)
        self._inside.pop(joining, None)

    async def _serve_one(self, joining: JoiningPeer) -> None:
        try:
            async with asyncio.timeout(DEADLINE_S):
                if await self._turn_comes(joining):
                    await self._converse(joining)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, RemoteProtocolError) as error:
            log.info("enrolment from %s ended: %s", joining.host, str(error) or type(error).__name__)
        except Exception as error:  # noqa: BLE001 - the broker must keep running
            log_fault(f"an enrolment from {joining.host}", error)

    async def _turn_comes(self, joining: JoiningPeer) -> bool:
        """Wait for the peer's first byte and turn; return False if it has closed."""
        await readable(joining.peer.fileno())
        if not joining.peer.recv(1, socket.MSG_PEEK):
            return False
        joining.waits_for_us = True
        self._handshakes.wait(joining)
        await joining.turn.wait()
        self._handshakes.charge(HANDSHAKE_COST_S)
        joining.waits_for_us = False
        return True

    async def _converse(self, joining: JoiningPeer) -> None:
        reader = asyncio.StreamReader(limit=LIMIT_BYTES)
        protocol = asyncio.StreamReaderProtocol(reader)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, joining.peer, ssl=self._context)
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        try:
            require_strength(transport.get_extra_info("ssl_object"))
            length = body_length(await reader.readexactly(PREFIX_BYTES))
            body = await reader.readexactly(length)
            joining.waits_for_us = True
            writer.write(encode_message(await self._answer(body, joining.host)))
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        finally:
            transport.abort()

    async def _answer(self, body: bytes, host: str) -> JoinReply | FleetReply | JoinRefusal:
        try:
            reply = await asyncio.to_thread(self._admin.redeem, parse_request(body), host)
        except StateUnavailable as error:
            log.warning("enrolment: %s", error)
            return JoinRefusal("unavailable", f"the broker cannot {error.cannot}")
        if isinstance(reply, JoinReply):
            log.info("consumer %s joined from %s", reply.consumer, host)
            self._answered(reply.consumer, host, "")
        elif isinstance(reply, FleetReply):
            log.info("broker %s joined from %s", reply.broker, host)
            self._answered(f"broker {reply.broker}", host, "")
        else:
            self._answered("", host, reply.reason)
            if reply.reason == USED:
                self._alarm = f"{host} tried to join: {reply.message}"
                log.warning("enrolment: %s", self._alarm)
        return reply


def _context(certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # each connection has one request, so sessions are never resumed
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"cannot use the enrolment door's certificate {certificate}: {error}") from error
    return context
