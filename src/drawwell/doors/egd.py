"""The EGD door, for local programs that use the EGD protocol.

The protocol has no names and no classes. Every peer that can open the socket counts as the
same configured consumer and gets the same configured class.
"""

import asyncio
import itertools
import os
from collections.abc import Callable
from functools import cache
from typing import Final

from drawwell.authorisation import DRAW, STIR, DoorKind, Principal, Role, may
from drawwell.doors.connection import REQUESTS_PER_TURN, AnsweringConnection
from drawwell.doors.door import Limits
from drawwell.doors.local import LocalDoor
from drawwell.doors.retry import draw_patiently, in_line
from drawwell.entropy.blocks import DrawClass, DrawRequest
from drawwell.entropy.turns import Turn, Turns
from drawwell.errors import DrawRefused, DrawwellError, Refused, RemoteProtocolError, StateUnavailable
from drawwell.ports import Broker
from drawwell.wire.egd import (
    AskLevel,
    EgdParser,
    Read,
    Request,
    Write,
    counted_answer,
    level_answer,
)

MAX_WAITING_BYTES: Final = 4096
"""The maximum size of a peer's queued requests; reading stops beyond it."""
_NOT_NOW: Final = (Refused, StateUnavailable)
KEPT_S: Final = 1.0
"""How long a place is reserved for a peer that does not wait."""
_LIMITS: Final = Limits(max_sessions=512, max_sessions_each=256)


class PeerQueue:
    """The queue of a door's peers; each peer has at most one place."""

    def __init__(self) -> None:
        self._turns = Turns()
        self._places: dict[str, Turn] = {}
        self._waiting: dict[Turn, asyncio.Future[None]] = {}
        self._kept: dict[str, asyncio.TimerHandle] = {}

    @property
    def anyone(self) -> bool:
        """Whether any peer waits or has a reserved place."""
        return bool(self._places)

    def may_go(self, peer: str, n_bytes: int) -> bool:
        """Queue the peer if necessary; return whether it is the peer's turn."""
        kept = self._kept.pop(peer, None)
        if kept:
            kept.cancel()
        if peer not in self._places:
            self._places[peer] = self._turns.join(peer, n_bytes)
        return self._turns.first() is self._places[peer]

    async def wait(self, peer: str, n_bytes: int) -> None:
        """Queue the peer and wait for its turn."""
        while not self.may_go(peer, n_bytes):
            waiting = self._waiting[self._places[peer]] = asyncio.get_running_loop().create_future()
            await waiting

    def keep(self, peer: str) -> None:
        """Reserve the place of a peer that got no bytes, until its next request."""
        self._kept[peer] = asyncio.get_running_loop().call_later(KEPT_S, self.leave, peer)

    def leave(self, peer: str, served_bytes: int = 0) -> None:
        """Remove the peer from the queue, and wake the next one."""
        if kept := self._kept.pop(peer, None):
            kept.cancel()
        if turn := self._places.pop(peer, None):
            self._turns.served(peer, served_bytes, 1)
            self._turns.leave(turn)
            self._waiting.pop(turn, None)
            self._tell_first()

    def forget(self, peer: str) -> None:
        """Forget a disconnected peer."""
        self.leave(peer)
        self._turns.forget(peer)

    def _tell_first(self) -> None:
        first = self._turns.first()
        waiting = self._waiting.pop(first, None) if first else None
        if waiting and not waiting.done():
            waiting.set_result(None)


class EgdDoor(LocalDoor):
    """A door that serves `broker` over the EGD protocol.

    Args:
        where: A socket file (with a slash), or a loopback ``host:port``.
        broker: Serves the draws.
        consumer: The consumer of every peer at this door.
        draw_class: The class that every peer gets, from `class` in [[egd]].
        available_bytes: Returns how many bytes of that class the consumer can draw now.
        mode: Permissions of the socket file.
        limits: Deadlines and connection limits.

    Raises:
        ConfigError: `where` is not a loopback address.
    """

    def __init__(
        self,
        where: str,
        broker: Broker,
        consumer: str,
        draw_class: DrawClass,
        available_bytes: Callable[[], int],
        *,
        mode: int = 0o660,
        limits: Limits = _LIMITS,
    ) -> None:
        super().__init__(where, mode, "EGD does not identify its peers", limits)
        self.broker = broker
        self.draw_class = draw_class
        self.available_bytes = available_bytes
        self.principal = Principal(Role.CONSUMER, consumer)
        self.waiting_read = cache(lambda n_bytes: in_line(n_bytes, draw_class))
        """Returns the draw request for a read of 1 to 255 bytes."""
        self.queue = PeerQueue()
        self.numbers = itertools.count()
        """Numbers that serve as names for the peers."""

    def _connection(self) -> "EgdConnection":
        return EgdConnection(self)


class EgdConnection(AnsweringConnection):
    """A peer, answered in order because EGD answers have no identifier."""

    def __init__(self, door: EgdDoor) -> None:
        super().__init__(door)
        self._egd = door
        self._parser = EgdParser()
        self._handled = 0
        self._name = str(next(door.numbers))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Admit the peer as the door's consumer (asyncio)."""
        super().connection_made(transport)
        for verb in (DRAW, STIR):  # checked only once, because the principal and the table are fixed
            may(DoorKind.EGD, self._egd.principal, verb)
        self._admit(self._egd.principal.name)

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop the waiting requests (asyncio)."""
        super().connection_lost(exc)
        self._egd.queue.forget(self._name)

    def _received(self, data: memoryview) -> None:
        self._parser.feed(data)
        self._pump()

    def _answer(self) -> None:
        requests, unparsed = 0, self._parser.unparsed
        while unparsed and not self._blocked and not self._requests and requests < REQUESTS_PER_TURN:
            try:
                request = self._parser.next_request()
            except RemoteProtocolError:
                self._door.counts.protocol_errors += 1
                self._leave()
                return
            if request is None:
                break
            requests += 1
            self._handle(request)
        again, stalled = requests == REQUESTS_PER_TURN, len(unparsed) >= MAX_WAITING_BYTES
        if again or stalled or self._paused or self._blocked:
            self._throttle(stalled=stalled, again=again)

    def _part(self) -> int | None:
        return self._handled if self._parser.unparsed and not self._requests else None

    def _handle(self, request: Request) -> None:
        self._handled += 1
        door = self._egd
        if isinstance(request, Read):
            try:
                self._read_all(request.n_bytes) if request.waits else self._read(request.n_bytes)
            except DrawwellError:
                self._leave()  # later requests cannot be answered in order
        elif isinstance(request, Write):
            door.broker.mix_in(door.principal, request.data)
        elif isinstance(request, AskLevel):
            self._write(level_answer(8 * door.available_bytes()))
        else:
            self._write(counted_answer(str(os.getpid()).encode()))

    def _read(self, wanted_bytes: int) -> None:
        """Answer with a count and the bytes available now, possibly none."""
        door = self._egd
        may_go = not door.queue.anyone or door.queue.may_go(self._name, wanted_bytes)
        n_bytes = min(wanted_bytes, door.available_bytes()) if may_go else 0
        if not n_bytes:
            self._answer_counted(wanted_bytes, b"")
            return
        request = DrawRequest(n_bytes, door.draw_class)
        try:
            grant = door.broker.try_draw(door.principal, request)
        except _NOT_NOW as error:
            self._answer_counted(wanted_bytes, _nothing(error))
            return
        if grant is None:
            door.queue.may_go(self._name, wanted_bytes)  # the peer keeps its place while it waits
            self._spawn(self._draw_counted(wanted_bytes, request))
        else:
            self._answer_counted(wanted_bytes, grant.data)

    async def _draw_counted(self, wanted_bytes: int, request: DrawRequest) -> None:
        data = b""
        try:
            data = (await self._egd.broker.draw(self._egd.principal, request)).data
        except DrawwellError as error:
            if isinstance(error, DrawRefused) or not isinstance(error, _NOT_NOW):
                self._leave()
                return
        self._answer_counted(wanted_bytes, data)

    def _answer_counted(self, wanted_bytes: int, data: bytes) -> None:
        if data or not wanted_bytes:
            self._egd.queue.leave(self._name, len(data))
        else:
            self._egd.queue.may_go(self._name, wanted_bytes)
            self._egd.queue.keep(self._name)
        self._write(counted_answer(data))

    def _read_all(self, n_bytes: int) -> None:
        """Answer with `n_bytes` at the peer's turn, once they are available."""
        door = self._egd
        if not n_bytes:
            return
        grant = None
        if not door.queue.anyone:
            try:
                grant = door.broker.try_draw(door.principal, door.waiting_read(n_bytes))
            except _NOT_NOW as error:
                _nothing(error)
        if grant is None:
            self._spawn(self._draw_all(n_bytes))
        else:
            self._write(grant.data)

    async def _draw_all(self, n_bytes: int) -> None:
        door, data = self._egd, b""
        try:
            await door.queue.wait(self._name, n_bytes)
            data = (await draw_patiently(door.broker, door.principal, n_bytes, door.draw_class)).data
            self._write(data)
        except DrawwellError:
            self._leave()
        finally:
            door.queue.leave(self._name, len(data))


def _nothing(error: DrawwellError) -> bytes:
    """Return b"" for a temporary refusal; raise a permanent one."""
    if isinstance(error, DrawRefused):
        raise error
    return b""
