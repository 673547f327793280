"""The HTTP API: over TLS, on a Unix socket, and on loopback for probes.

Requests on a connection are answered in order. A peer that is not a consumer can get public
information, one answer per connection.
"""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Hashable, Iterator
from contextlib import contextmanager, suppress
from email.utils import formatdate
from typing import Any, Final

from drawwell.authorisation import ANYONE, DRAW, OBSERVE, READY, DoorKind, Principal, Role, may
from drawwell.doors.connection import SessionConnection
from drawwell.doors.door import Limits
from drawwell.doors.local import LocalDoor
from drawwell.doors.session_machine import SessionMachine, Spawn
from drawwell.doors.sockets import loopback_user
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
MOST_PAGES_OF_ONE: Final = 8
"""The maximum number of open pages of one local user or consumer."""
EVENT_EVERY_S: Final = 0.5
SILENT_S: Final = 15.0
"""The longest time without an event, to keep proxies from dropping the connection."""
MAX_UNREAD_BYTES: Final = 262_144
"""The limit of unread output. A page that exceeds it is closed."""


class OpenPages:
    """The open status pages at one door, counted by user."""

    def __init__(self) -> None:
        self._open: Counter[Hashable] = Counter()

    @property
    def count(self) -> int:
        """The number of open pages."""
        return self._open.total()

    def full(self, user: Hashable) -> bool:
        """Return whether a user has reached the limit."""
        return self.count >= MOST_PAGES or self._open[user] >= MOST_PAGES_OF_ONE

    @contextmanager
    def of(self, user: Hashable) -> Iterator[None]:
        """Count one open page of a user while the block runs."""
        self._open[user] += 1
        try:
            yield
        finally:
            self._open -= Counter([user])


class HttpConversation(SessionMachine):
    """Answers one peer over HTTP.

    Args:
        pump: Sends the pending output.
        pages: Counts the open status pages.
        user: Returns the user for whom a page is counted.
        owner: Whether the peer is the broker's owner, who may observe everything.
        clock: Returns seconds since 1970.
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
        user: Callable[[], Hashable],
        owner: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        session = self._session = HttpSession()
        super().__init__(
            broker,
            identify,
            way=way,
            spawn=spawn,
            receive_data=session.receive_data,
            outgoing=session.outgoing,
        )
        self._pump = pump
        self._pages = pages
        self._user = user
        self._owner = owner
        self._clock = clock
        self._requests = 0
        self._waiting = False
        self._calling = False
        self._last = False

    @property
    def stalled(self) -> bool:
        """Whether reading must pause: too much input waits (SessionMachine)."""
        return self._waiting and self._session.unparsed_bytes > MAX_HEAD_BYTES

    @property
    def part(self) -> int | None:
        """The number of the incomplete request, or None (SessionMachine)."""
        return None if self._waiting or not self._session.unparsed_bytes else self._requests

    def step(self) -> bool:
        """Handle one request; return False if there is none (SessionMachine)."""
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
        """Handle EOF; return whether an answer is still pending.

        A waiting draw is dropped, because its bytes would be lost if the peer is gone.
        """
        self._last = True
        return self._calling or bool(self.outgoing)

    def end(self, reason: str) -> None:  # noqa: ARG002 - HTTP has no goodbye message
        """Stop answering (SessionMachine)."""
        self.over = True

    def _handle(self, request: HttpRequest) -> None:
        ask, unknown = read(request, local=self._way is not DoorKind.HTTPS), None
        try:
            peer = self._identify()
            self.consumer, self.admitted = peer.name, True
        except PermissionRefused as error:
            peer, unknown = Principal(Role.STRANGER, "this peer"), error
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
        """Answer in a task; later requests wait until the task is done."""
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
        """Stream updates to a status page until either side closes."""
        self._waiting = True
        self._spawn(self._tell(ask, peer))

    async def _tell(self, ask: EventsAsk, peer: Principal) -> None:
        user = self._user()
        if self._pages.full(user):
            self._waiting = False
            full = problem(503, "too many status pages are open", hint="Close a page, or use /metrics.")
            self._say(full, final=True)
            return
        self.admitted = True
        self._session.begin_events(formatdate(self._clock(), usegmt=True))
        shown, silent_s = "", 0.0
        with self._pages.of(user), suppress(DrawwellError):
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
    """A door that serves the HTTP API on this machine.

    Args:
        where: A socket file (with a slash), or a loopback ``host:port``.
        broker: Serves the draws.
        identify: Returns the consumer of (uid, gid, pid), called for each request; raises
            PermissionRefused. If None, the door serves only public information, to probes.
        mode: Permissions of the socket file.
        limits: Deadlines and connection limits.

    Raises:
        ConfigError: `where` is not a loopback address.
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
        super().__init__(where, mode, "it does not authenticate its peers", limits)
        self.broker = broker
        self.identify = identify
        self.pages = OpenPages()

    def may_draw(self, uid: int, gid: int, pid: int) -> bool:
        """Return whether the user may draw; always true at a door for probes."""
        try:
            return self.identify is None or bool(self.identify(uid, gid, pid))
        except PermissionRefused:
            return False

    def _connection(self) -> "HttpConnection":
        return HttpConnection(self)


class HttpConnection(SessionConnection):
    """A connection of a peer identified by the kernel, or of a probe."""

    def __init__(self, door: HttpDoor) -> None:
        super().__init__(door)
        self._http = door

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the new connection (asyncio)."""
        super().connection_made(transport)
        door = self._http
        pid, uid, gid = peer_credentials(transport) if door.path else (0, -1, -1)

        def identify() -> Principal:
            if door.identify is None:
                raise PermissionRefused(
                    "this address does not serve consumers",
                    hint="Use the socket configured in [http], or TLS.",
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
            user=lambda: uid if door.path else loopback_user(transport.get_extra_info("socket")),
            owner=door.identify is not None and uid in {0, os.geteuid()},
        )

    def eof_received(self) -> bool:
        """Close on EOF, but let a running call answer first (asyncio)."""
        return self._talk.input_ended()
