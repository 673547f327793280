"""The TLS door: mutual TLS 1.3. The registry checks every request."""

import asyncio
import logging
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from drawwell.authorisation import DRAW, DoorKind, Principal, may
from drawwell.doors.admission import (
    ARRIVAL_COST,
    ARRIVALS_AT_ONCE,
    ARRIVALS_PER_S,
    IDLE_ARRIVALS_PER_S,
    Budget,
    Handshakes,
    Spare,
)
from drawwell.doors.connection import SessionConnection
from drawwell.doors.door import Door, Limits
from drawwell.doors.http import HttpConversation, OpenPages
from drawwell.doors.session import BrokerSession
from drawwell.doors.sockets import listen_tcp
from drawwell.doors.stream import SEND_BUFFER_BYTES, stream
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import (
    AuthenticationFailed,
    DrawwellError,
    PermissionRefused,
    RemoteProtocolError,
    StateUnavailable,
)
from drawwell.ports import Broker, Registry
from drawwell.wire.hello import group_name
from drawwell.wire.http_session import HTTP_ALPN
from drawwell.wire.limits import ALPN, MAX_HANDSHAKE_BYTES
from drawwell.wire.tls import TlsLayer, TlsState

_log = logging.getLogger(__name__)
MAX_HALF_OPEN: Final = 2048
"""Enough for a thousand machines that reconnect at once, at about 7 KiB each."""
HANDSHAKE_READ_BYTES: Final = 8192
"""Enough to read a client's certificates at once: each read needs a step in the thread."""


class TlsDoor(Door):
    """A door that serves `broker` over TLS to the consumers in `registry`.

    Args:
        host: The address; ``*`` for every address.
        port: The port, 0 for any free port.
        context: Creates the TLS context (wire/contexts.py) in `serve` and `reload`.
        broker: Serves the draws.
        registry: Authenticates consumers.
        broker_name: The broker's name.
        streams: Returns the class of a consumer's stream, or None if it has no stream.
        limits: Deadlines and connection limits.
        clock: Returns seconds since 1970, for HTTP.
    """

    def __init__(
        self,
        host: str,
        port: int,
        context: Callable[[], ssl.SSLContext],
        broker: Broker,
        registry: Registry,
        *,
        broker_name: str = "drawwell",
        streams: Callable[[str], DrawClass | None] = lambda _consumer: None,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        clock: Callable[[], float] = time.time,
    ) -> None:
        spare = Spare()
        at_once = ARRIVALS_AT_ONCE * ARRIVAL_COST
        super().__init__(limits, Budget(ARRIVALS_PER_S, at_once, IDLE_ARRIVALS_PER_S, spare))
        self.broker = broker
        self.registry = registry
        self.broker_name = broker_name
        self.streams = streams
        self.clock = clock
        self.groups: Counter[str] = Counter()
        """The number of handshakes by negotiated key-exchange group."""
        self.context: ssl.SSLContext | None = None
        self.handshakes = Handshakes(self._half_open.known, spare)
        self.pages = OpenPages()
        self.handshake_buffer = memoryview(bytearray(HANDSHAKE_READ_BYTES))
        """The shared `buffer` of connections that are not identified yet."""
        self._host = host
        self._port = port
        self._make_context = context

    def key_exchanges(self) -> str:
        """Return a summary of handshakes by group, or "" before the first one."""
        chosen = ", ".join(f"{name} ({times})" for name, times in self.groups.most_common())
        return f"tls key exchanges: {chosen}" if chosen else ""

    def reload(self) -> None:
        """Reload certificate, key and CA; open sessions keep the old ones.

        Raises:
            ConfigError: the new files are invalid; the old ones stay in use.
        """
        self.context = self._make_context()

    async def serve(self, handed: Sequence[socket.socket] = ()) -> None:
        """Listen and serve until cancelled; see Door.

        Raises:
            ConfigError: the certificate files are invalid; also for the reasons in Door.
        """
        self.reload()
        try:
            await super().serve(handed)
        finally:
            self.handshakes.close()

    def _listen(self) -> list[socket.socket]:
        return listen_tcp(self._host, self._port)

    def _connection(self) -> "TlsConnection":
        return TlsConnection(self)


class TlsConnection(SessionConnection):
    """A session over TLS. The TLS layer is created at the handshake's turn."""

    def __init__(self, door: TlsDoor) -> None:
        super().__init__(door)
        self._tls_door = door
        self._buffer = door.handshake_buffer
        self._tls: TlsLayer | None = None
        self._opening = bytearray()
        """Bytes that arrived before the handshake's turn."""
        self._stepping = False
        """Whether a handshake step is running in the thread, so the TLS layer is in use."""
        self._entitled: Callable[[], tuple[Principal, DrawClass]] | None = None
        """For a stream: returns its consumer and class; raises PermissionRefused."""
        self._sent: asyncio.Event | None = None
        """For a stream: set while there is no pending output."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the connection; enable TCP keepalive (asyncio)."""
        super().connection_made(transport)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def connection_lost(self, exc: Exception | None) -> None:
        """Deregister the connection and leave the handshake queue (asyncio)."""
        self._tls_door.handshakes.leave(self)
        super().connection_lost(exc)

    def quiet_s(self, now: float) -> float:
        """Return how long we have waited for the peer; 0 while it is queued."""
        return 0.0 if self._opening or self._stepping else super().quiet_s(now)

    def pause_writing(self) -> None:
        """Pause the stream, because the peer does not read (asyncio)."""
        super().pause_writing()
        if self._sent:
            self._sent.clear()

    def resume_writing(self) -> None:
        """Resume the stream (asyncio)."""
        super().resume_writing()
        if self._sent:
            self._sent.set()

    def recheck(self) -> None:
        """Close unless the certificate is still valid (ServedConnection)."""
        super().recheck()
        try:
            if self._entitled:
                self._entitled()
        except PermissionRefused:
            self._drop_requests()
            self._leave()

    def overdue(self, now: float) -> bool:
        """Return whether a deadline has passed; a queued peer or stream has none."""
        if (self._sent or self._opening) and self._leaving_since is None:
            return False
        return super().overdue(now)

    def _received(self, data: memoryview) -> None:
        tls = self._tls
        if tls is None:
            self._queue(data)
            return
        if tls.state is TlsState.HANDSHAKE:
            self._shake_hands(tls, bytes(data))
            return
        try:
            plaintext = tls.read(data)
        except RemoteProtocolError as error:
            self._turn_away(tls, error)
            return
        if plaintext and self._conversation is not None:
            self._conversation.receive_data(plaintext)
            self._pump()
        else:
            self._write(tls.data_to_send())
        if tls.state is TlsState.CLOSED:
            self._leave()

    def begin(self) -> None:
        """Begin the handshake and its deadline (PendingHandshake)."""
        assert self._tls_door.context is not None  # noqa: S101 - created before listening
        opening, self._opening = self._opening, bytearray()
        self._opened_at = self._received_at = self._loop.time()
        try:
            with self._tls_door.handshakes.paid():
                self._tls = TlsLayer(self._tls_door.context)
            self._shake_hands(self._tls, bytes(opening))
        except Exception as error:  # noqa: BLE001 - the rest of the queue must be served
            self._give_up(error)

    def _queue(self, data: memoryview) -> None:
        """Queue the handshake."""
        in_line = bool(self._opening)
        self._opening += data
        if len(self._opening) > MAX_HANDSHAKE_BYTES:
            self._door.counts.protocol_errors += 1
            self.abort()
        elif not in_line:
            self._tls_door.handshakes.wait(self)

    def _shake_hands(self, tls: TlsLayer, data: bytes) -> None:
        """Run one handshake step in the thread; reading is paused meanwhile."""
        if self._transport is not None:
            self._transport.pause_reading()
            self._stepping = True
            self._tls_door.handshakes.step(partial(tls.receive_data, data), partial(self._shaken, tls))

    def _shaken(self, tls: TlsLayer, error: Exception | None) -> None:
        """Send the output of a handshake step, and continue."""
        self._stepping = False
        if self._transport is None or self._leaving_since is not None:
            return
        self._received_at = self._loop.time()
        if isinstance(error, RemoteProtocolError):
            self._turn_away(tls, error)
        elif error is not None:
            self._give_up(error)
        else:
            self._write(tls.data_to_send())
            if tls.state is TlsState.OPEN:
                self._spawn(self._identify(tls))
            else:
                self._transport.resume_reading()

    def _leave(self) -> None:
        if self._tls is not None and not self._stepping:
            self._tls.close()
            self._write(self._tls.data_to_send())
        super()._leave()

    async def _identify(self, tls: TlsLayer) -> None:
        """Identify the peer; open its session, or reject it."""
        door = self._tls_door
        try:
            peer = await door.registry.identify(tls.peer_certificate)
            if self._leaving_since is None:
                self._open(tls, peer)
        except RemoteProtocolError as error:
            self._turn_away(tls, error)
        except StateUnavailable as error:
            _log.error("cannot identify a peer from %s now: %s", self.address, error)
            self._not_now(tls)
        if self._leaving_since is None and self._transport is not None:
            self._transport.resume_reading()
            self._received(memoryview(b""))  # bytes that followed the handshake

    def _open(self, tls: TlsLayer, peer: Principal) -> None:
        door = self._tls_door
        self._buffer, self._seal = door.buffer, tls.encrypt
        if tls.group is not None:
            door.groups[group_name(tls.group)] += 1

        identify = partial(door.registry.check, peer)
        if tls.protocol == ALPN:
            self._conversation = BrokerSession(
                door.broker, door.broker_name, identify, way=DoorKind.TLS, spawn=self._spawn
            )
        elif tls.protocol == HTTP_ALPN:
            self._conversation = HttpConversation(
                door.broker,
                identify,
                way=DoorKind.HTTPS,
                spawn=self._spawn,
                pump=self._pump,
                pages=door.pages,
                user=lambda: peer.name,
                clock=door.clock,
            )
        else:
            self._begin_stream(peer)

    def _not_now(self, tls: TlsLayer) -> None:
        """Answer the hello of a peer that cannot be looked up now."""
        if tls.protocol != ALPN:
            self._leave()
            return

        def identify() -> Principal:
            raise StateUnavailable(
                "the broker cannot look up its consumers now",
                hint="Draw from another broker, or try again in a minute.",
            )

        door = self._tls_door
        self._buffer, self._seal = door.buffer, tls.encrypt
        self._conversation = BrokerSession(
            door.broker, door.broker_name, identify, way=DoorKind.TLS, spawn=self._spawn
        )

    def _begin_stream(self, peer: Principal) -> None:
        """Start a consumer's stream; reject a peer without a stream."""
        try:
            self._streamed(peer)
        except PermissionRefused as error:
            raise RemoteProtocolError(f"the peer does not support {ALPN}: {error}") from None
        if self._transport is None:
            return
        sent = self._sent = asyncio.Event()
        sent.set()
        self._admit(peer.name)
        self._transport.set_write_buffer_limits(high=0)
        tcp = self._transport.get_extra_info("socket")
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        door = self._tls_door

        def entitled() -> tuple[Principal, DrawClass]:
            return peer, self._streamed(door.registry.check(peer))

        self._entitled = entitled
        self._spawn(self._stream(entitled, sent))

    async def _stream(self, entitled: Callable[[], tuple[Principal, DrawClass]], sent: asyncio.Event) -> None:
        try:
            await stream(self._tls_door.broker, entitled, self._transmit, sent.wait)
        except DrawwellError as error:
            _log.info("a stream has ended: %s", error)
            self._leave()

    def _streamed(self, peer: Principal) -> DrawClass:
        """Return the class streamed to the peer; raises PermissionRefused."""
        may(DoorKind.STREAM, peer, DRAW)
        draw_class = self._tls_door.streams(peer.name)
        if draw_class is None:
            raise PermissionRefused(f"consumer {peer.name} has no stream")
        return draw_class

    def _turn_away(self, tls: TlsLayer, error: RemoteProtocolError) -> None:
        """Reject the peer; send only a TLS alert."""
        _log.info("rejected a peer from %s: %s", self.address or "an unknown address", error)
        if isinstance(error, AuthenticationFailed):
            self._door.counts.unauthenticated += 1
        else:
            self._door.counts.protocol_errors += 1
        tls.close()
        self._leave()
