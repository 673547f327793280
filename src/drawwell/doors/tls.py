"""The TLS door: one port, mutual TLS 1.3; the registry says whose certificate it is, and again before each request."""

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
from drawwell.doors.stream import SEND_BUFFER_BYTES, pour
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
"""A thousand machines that come back at once all find room, at some 7 KiB each until they have their turn."""


class TlsDoor(Door):
    """Serve `broker` over TLS to the consumers that `registry` knows.

    Args:
        host: Where to listen; ``*`` for every address.
        port: The port, 0 for any that is free.
        context: Makes the TLS context (wire.contexts.server_context); asked at `serve` and at each `reload`.
        broker: Who is asked.
        registry: Who may come in.
        broker_name: How the broker calls itself.
        streams: Says what class a consumer is streamed that does not speak our protocol; None closes on it.
        limits: Deadlines and bounds.
        clock: Seconds since 1970, for the registry.
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
        super().__init__(limits, Budget(ARRIVALS_PER_S, ARRIVALS_AT_ONCE, IDLE_ARRIVALS_PER_S, spare))
        self.broker = broker
        self.registry = registry
        self.broker_name = broker_name
        self.streams = streams
        self.clock = clock
        self.groups: Counter[str] = Counter()
        """The key-exchange groups that were negotiated, and how often."""
        self.context: ssl.SSLContext | None = None
        self.handshakes = Handshakes(self._half_open.known, spare)
        self.pages = OpenPages()
        self._host = host
        self._port = port
        self._make_context = context

    def reload(self) -> None:
        """Read certificate, key and CA again; open sessions go on with the old ones.

        Raises:
            ConfigError: they cannot be used; the old ones stay.
        """
        self.context = self._make_context()

    async def serve(self, handed: Sequence[socket.socket] = ()) -> None:
        """Listen and serve until cancelled; see Door. Raises ConfigError too for files that cannot be used."""
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
    """A connection with TLS under its conversation. Nothing is set up for it before its handshake has its turn."""

    def __init__(self, door: TlsDoor) -> None:
        super().__init__(door)
        self._tls_door = door
        self._tls: TlsLayer | None = None
        self._opening = bytearray()
        """What it said before its turn."""
        self._stepping = False
        """A step of the handshake runs off the loop: nothing here touches the TLS layer."""
        self._entitled: Callable[[], tuple[Principal, DrawClass]] | None = None
        """Of a stream: who has it and of which class; raises PermissionRefused."""
        self._sent: asyncio.Event | None = None
        """Of a stream: set while nothing of it waits here."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Come in; the kernel finds out peers that are gone without a word (asyncio)."""
        super().connection_made(transport)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave the line too (asyncio)."""
        self._tls_door.handshakes.leave(self)
        super().connection_lost(exc)

    def quiet_s(self, now: float) -> float:
        """How long we have been waiting for it; in line it waits for us (ServedConnection)."""
        return 0.0 if self._opening or self._stepping else super().quiet_s(now)

    def pause_writing(self) -> None:
        """Hold the stream: the peer does not read (asyncio)."""
        super().pause_writing()
        if self._sent:
            self._sent.clear()

    def resume_writing(self) -> None:
        """Go on with it (asyncio)."""
        super().resume_writing()
        if self._sent:
            self._sent.set()

    def recheck(self) -> None:
        """End it unless its certificate still counts, a stream too (ServedConnection)."""
        super().recheck()
        try:
            if self._entitled:
                self._entitled()
        except PermissionRefused:
            self._drop_requests()
            self._leave()

    def overdue(self, now: float) -> bool:
        """Whether a deadline is past; a stream waits for its reader, and who is in line for us (ServedConnection)."""
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
        """Begin the handshake; only now does its deadline begin (PendingHandshake)."""
        assert self._tls_door.context is not None  # noqa: S101 - made before we listen
        opening, self._opening = self._opening, bytearray()
        self._opened_at = self._heard_at = self._loop.time()
        try:
            with self._tls_door.handshakes.paid():
                self._tls = TlsLayer(self._tls_door.context)
            self._shake_hands(self._tls, bytes(opening))
        except Exception as error:  # noqa: BLE001 - the others in line must have their turn
            self._give_up(error)

    def _queue(self, data: memoryview) -> None:
        """Wait for a turn."""
        in_line = bool(self._opening)
        self._opening += data
        if len(self._opening) > MAX_HANDSHAKE_BYTES:
            self._door.counts.protocol_errors += 1
            self.abort()
        elif not in_line:
            self._tls_door.handshakes.wait(self)

    def _shake_hands(self, tls: TlsLayer, data: bytes) -> None:
        """Take one step of the handshake; nothing is read meanwhile."""
        if self._transport is not None:
            self._transport.pause_reading()
            self._stepping = True
            self._tls_door.handshakes.step(partial(tls.receive_data, data), partial(self._shaken, tls))

    def _shaken(self, tls: TlsLayer, error: Exception | None) -> None:
        """Send what the step has come to, and go on."""
        self._stepping = False
        if self._transport is None or self._leaving_since is not None:
            return
        self._heard_at = self._loop.time()
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

    def _transmit(self, data: bytes) -> None:
        if self._tls is not None and self._tls.state is TlsState.OPEN:
            self._write(self._tls.encrypt(data))

    def _leave(self) -> None:
        if self._tls is not None and not self._stepping:
            self._tls.close()
            self._write(self._tls.data_to_send())
        super()._leave()

    async def _identify(self, tls: TlsLayer) -> None:
        """Have the peer's session open, or turn it away; nothing is read from it meanwhile."""
        door = self._tls_door
        try:
            peer = await door.registry.identify(tls.peer_certificate, door.clock())
            if self._leaving_since is None:
                self._open(tls, peer)
        except RemoteProtocolError as error:
            self._turn_away(tls, error)
        except StateUnavailable as error:
            _log.error("nobody from %s can be identified now: %s", self.address, error)
            self._leave()
        if self._leaving_since is None and self._transport is not None:
            self._transport.resume_reading()
            self._received(memoryview(b""))  # what came behind the handshake

    def _open(self, tls: TlsLayer, peer: Principal) -> None:
        door = self._tls_door
        if tls.group is not None:
            door.groups[group_name(tls.group)] += 1

        def identify() -> Principal:
            return door.registry.check(peer, door.clock())

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
                clock=door.clock,
            )
        else:
            self._begin_stream(peer)

    def _begin_stream(self, peer: Principal) -> None:
        """Serve a stream, to a consumer that has one; whoever came here by mistake must not get bytes."""
        try:
            self._streamed(peer)
        except PermissionRefused as error:
            raise RemoteProtocolError(f"the peer does not speak {ALPN}: {error}") from None
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
            return peer, self._streamed(door.registry.check(peer, door.clock()))

        self._entitled = entitled
        self._spawn(self._stream(entitled, sent))

    async def _stream(self, entitled: Callable[[], tuple[Principal, DrawClass]], sent: asyncio.Event) -> None:
        try:
            await pour(self._tls_door.broker, entitled, self._transmit, sent.wait)
        except DrawwellError as error:
            _log.info("a stream ends: %s", error)
            self._leave()

    def _streamed(self, peer: Principal) -> DrawClass:
        """What the peer is streamed; raises PermissionRefused."""
        may(DoorKind.STREAM, peer, DRAW)
        draw_class = self._tls_door.streams(peer.name)
        if draw_class is None:
            raise PermissionRefused(f"consumer {peer.name} has no stream")
        return draw_class

    def _turn_away(self, tls: TlsLayer, error: RemoteProtocolError) -> None:
        """Say nothing but what TLS says."""
        _log.info("turned away a peer from %s: %s", self.address or "nowhere", error)
        if isinstance(error, AuthenticationFailed):
            self._door.counts.unauthenticated += 1
        else:
            self._door.counts.protocol_errors += 1
        tls.close()
        self._leave()
