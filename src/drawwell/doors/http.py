"""The HTTP API: over TLS to consumers with a certificate, on a Unix socket to local users, on loopback to probes.

Requests on a connection are answered one after the other. Whoever is no consumer may ask what is public, once on
each connection.
"""

import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from email.utils import formatdate
from typing import Any, Final

from drawwell.authorisation import ANYONE, DRAW, OBSERVE, READY, DoorKind, Principal, Role, may
from drawwell.doors.connection import SessionConnection
from drawwell.doors.door import Limits
from drawwell.doors.local import LocalDoor
from drawwell.doors.session_machine import SessionMachine, Spawn
from drawwell.doors.unix import Identify, peer_credentials
from drawwell.entropy.blocks import Grant
from drawwell.errors import DrawwellError, PermissionRefused
from drawwell.ports import Broker
from drawwell.wire.http_answers import HttpResponse, problem, refusal
from drawwell.wire.http_api import read
from drawwell.wire.http_route import CallAsk, DrawAsk, EventsAsk
from drawwell.wire.http_session import MAX_HEAD_BYTES, HttpRequest, HttpSession

_LIMITS: Final = Limits(max_half_open=32)
MOST_PAGES: Final = 32
EVENT_EVERY_S: Final = 1.0
SILENT_S: Final = 15.0
"""A page that is sent nothing for so long would be taken for dead by what lies between."""
MAX_UNREAD_BYTES: Final = 262_144
"""A page that leaves more unread is closed."""


class OpenPages:
    """The status pages that are open at one door."""

    def __init__(self) -> None:
        self.count = 0

    @property
    def full(self) -> bool:
        """Whether no more may be opened."""
        return self.count >= MOST_PAGES

    def __enter__(self) -> None:
        self.count += 1

    def __exit__(self, *_: object) -> None:
        self.count -= 1


class HttpConversation(SessionMachine):
    """Answers one peer over HTTP.

    Args:
        pump: Sends what `outgoing_bytes` counts.
        pages: Counts the open status pages.
        owner: Whether the peer is the broker's owner, who may observe everything.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        broker: Broker,
        identify: Callable[[], Principal],
        *,
        way: DoorKind,
        spawn: Spawn,
        pump: Callable[[], None],
        pages: OpenPages,
        owner: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        session = self._session = HttpSession()
        super().__init__(broker, identify, way=way, spawn=spawn, receive_data=session.receive_data)
        self._pump = pump
        self._pages = pages
        self._owner = owner
        self._clock = clock
        self._requests = 0
        self._waiting = False
        self._calling = False
        self._last = False

    @property
    def stalled(self) -> bool:
        """Whether so much waits behind the request under way that no more is read (SessionMachine)."""
        return self._waiting and self._session.unparsed_bytes > MAX_HEAD_BYTES

    @property
    def part(self) -> int | None:
        """Which request is here in part (SessionMachine)."""
        return None if self._waiting or not self._session.unparsed_bytes else self._requests

    @property
    def outgoing_bytes(self) -> int:
        """How much must be sent (SessionMachine)."""
        return self._session.outgoing_bytes

    def take_outgoing(self) -> bytes:
        """Take what must be sent (SessionMachine)."""
        return self._session.data_to_send()

    def step(self) -> bool:
        """Handle one request; False when there is none to handle now (SessionMachine)."""
        if self.over or self._waiting:
            return False
        request = self._session.next_request()
        if request is None:
            return False
        self._requests += 1
        if isinstance(request, HttpResponse):
            self.fault = "not HTTP/1.1"
            self._say(request)
        else:
            self._handle(request)
        return True

    def input_ended(self) -> bool:
        """Take note that the peer sends no more; return whether it still gets an answer.

        A draw that waits is dropped: the peer may be gone, and its bytes would be lost.
        """
        self._last = True
        return self._calling or self.outgoing_bytes > 0

    def end(self, reason: str) -> None:  # noqa: ARG002 - HTTP has no word for it
        """Answer no more (SessionMachine)."""
        self.over = True

    def _handle(self, request: HttpRequest) -> None:
        ask, unknown = read(request, local=self._way is not DoorKind.HTTPS), None
        try:
            peer = self._identify()
            self.consumer, self.admitted = peer.name, True
        except PermissionRefused as error:
            peer, unknown = Principal(Role.STRANGER, "whoever asks"), error
        final = unknown is not None
        try:
            if isinstance(ask, DrawAsk):
                may(self._way, peer, DRAW)
            elif isinstance(ask, CallAsk):
                may(self._way, peer, READY if ask.public else ask.verb)
            elif isinstance(ask, EventsAsk):
                may(self._way, peer, ask.verb)
        except PermissionRefused as error:
            self._say(refusal(unknown or error), final=final)
            return
        if isinstance(ask, HttpResponse):
            self._say(ask, final=final)
        elif isinstance(ask, DrawAsk):
            self._draw(ask, peer)
        elif isinstance(ask, EventsAsk):
            self._show(ask, ANYONE if final else peer)
        else:
            self._calling = True
            self._wait(self._called(ask, ANYONE if final else peer), final=final)

    def _draw(self, ask: DrawAsk, peer: Principal) -> None:
        try:
            grant = self._broker.try_draw(peer, ask.request)
        except DrawwellError as error:
            self._say(refusal(error))
            return
        if grant is None or grant.unsigned:
            self._wait(self._drawn(ask, peer, grant))
        else:
            self._say(ask.answer(grant))

    def _wait(self, answering: Coroutine[Any, Any, HttpResponse], *, final: bool = False) -> None:
        """Answer later; until then no other request is looked at."""
        self._waiting = True
        self._spawn(self._finish(answering, final=final))

    async def _finish(self, answering: Coroutine[Any, Any, HttpResponse], *, final: bool) -> None:
        answer = await answering
        self._waiting = self._calling = False
        self._say(answer, final=final)

    async def _drawn(self, ask: DrawAsk, peer: Principal, grant: Grant | None) -> HttpResponse:
        try:
            if grant is None:
                grant = await self._broker.draw(peer, ask.request)
            return ask.answer(await self._broker.sign(grant))
        except DrawwellError as error:
            return refusal(error)

    async def _called(self, ask: CallAsk, peer: Principal) -> HttpResponse:
        try:
            return ask.answer(await self._call(ask.verb, peer))
        except DrawwellError as error:
            return refusal(error)

    async def _call(self, verb: str, peer: Principal) -> dict[str, Any]:
        if verb == OBSERVE and self._owner:
            peer = Principal(Role.OWNER, peer.name)
        return await self._broker.call(peer, verb, {})

    def _show(self, ask: EventsAsk, peer: Principal) -> None:
        """Keep a status page up to date until either end closes."""
        self._waiting = True
        self._spawn(self._tell(ask, peer))

    async def _tell(self, ask: EventsAsk, peer: Principal) -> None:
        if self._pages.full:
            self._waiting = False
            full = problem(503, "too many status pages are open", hint="Close some, or read /metrics.")
            self._say(full, final=True)
            return
        self.admitted = True
        self._session.begin_events(formatdate(self._clock(), usegmt=True))
        shown, silent_s = "", 0.0
        with self._pages, suppress(DrawwellError):
            while self.outgoing_bytes < MAX_UNREAD_BYTES:
                seen = ask.render(await self._call(ask.verb, peer))
                silent_s += EVENT_EVERY_S
                if seen != shown or silent_s >= SILENT_S:
                    self._session.send_event(seen if seen != shown else "")
                    shown, silent_s = seen, 0.0
                    self._pump()
                await asyncio.sleep(EVENT_EVERY_S)
        self.over = True

    def _say(self, answer: HttpResponse, *, final: bool = False) -> None:
        if not self.over:
            self._session.answer(answer, formatdate(self._clock(), usegmt=True), final=final or self._last)
            self.over = self._session.closing


class HttpDoor(LocalDoor):
    """Serve the HTTP API on this machine.

    Args:
        where: A socket file (it has a slash), or a loopback ``host:port``.
        broker: Who is asked.
        identify: From (uid, gid, pid) to a consumer's name, asked before each request; raises PermissionRefused.
            With None nobody is known here, and only what is public is answered: for probes.
        mode: Permissions of the socket file.
        limits: Deadlines and bounds.

    Raises:
        ConfigError: `where` is not loopback.
    """

    def __init__(
        self,
        where: str,
        broker: Broker,
        identify: Identify | None = None,
        *,
        mode: int = 0o666,
        limits: Limits = _LIMITS,
    ) -> None:
        super().__init__(where, mode, "it asks nobody for a certificate", limits)
        self.broker = broker
        self.identify = identify
        self.pages = OpenPages()

    def may_draw(self, uid: int, gid: int, pid: int) -> bool:
        """Return whether the user is a consumer; for probes nobody is, and each user has a budget."""
        try:
            return self.identify is None or bool(self.identify(uid, gid, pid))
        except PermissionRefused:
            return False

    def _connection(self) -> "HttpConnection":
        return HttpConnection(self)


class HttpConnection(SessionConnection):
    """A connection whose peer the kernel knows, or nobody."""

    def __init__(self, door: HttpDoor) -> None:
        super().__init__(door)
        self._http = door

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Come in (asyncio)."""
        super().connection_made(transport)
        door = self._http
        pid, uid, gid = peer_credentials(transport) if door.identify and door.path else (0, -1, -1)

        def identify() -> Principal:
            if door.identify is None:
                raise PermissionRefused(
                    "nobody is a consumer here", hint="Ask on the socket that [http] names, or over TLS."
                )
            return Principal(Role.CONSUMER, door.identify(uid, gid, pid))

        way = DoorKind.PROBE if door.identify is None else DoorKind.HTTP
        self._conversation = self._talk = HttpConversation(
            door.broker,
            identify,
            way=way,
            spawn=self._spawn,
            pump=self._pump,
            pages=door.pages,
            owner=uid in {0, os.geteuid()},
        )

    def eof_received(self) -> bool:
        """Answer a call that is under way first (asyncio)."""
        return self._talk.input_ended()
