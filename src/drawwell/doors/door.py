"""What every door does: listen, admit, keep to the deadlines, and go.

Memory is bounded before anybody has shown who he is: at most `max_half_open` such connections, and the address with
the most of them gives one up; and at most `max_sessions` altogether. A consumer has `max_sessions_each`, its oldest
goes first: none can take the places of the others, and sessions that died unnoticed pass away. One sweep looks at all
deadlines.
"""

import abc
import asyncio
import socket
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from drawwell.doors.admission import Budget, HalfOpenConnection, Places
from drawwell.doors.sockets import credentials, describe
from drawwell.service.faults import log_fault, say_shortage

READ_BYTES: Final = 1024
"""The most that is read from one connection at a time: some 38 TLS records that change a key."""
ACCEPTS_PER_TURN: Final = 16
"""Then those who are inside have their turn."""
SHORTAGE_S: Final = 1.0
"""How long no connection is taken after one could not be, for want of a descriptor or memory."""
SWEPT_PER_TURN: Final = 64
"""As before: ten thousand connections take 25 ms, and each draw meanwhile waits for one turn."""
_MIN_SWEEP_S: Final = 0.01
_MAX_SWEEP_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a door waits and how many it lets in. Deadlines are kept to within a quarter of the shortest.

    handshake_deadline_s: from the connection to the welcome.
    frame_deadline_s: from the first byte of a frame to its last.
    write_deadline_s: how long a byte may lie here because the peer does not read.
    idle_deadline_s: how long a peer that is owed nothing may say nothing; None for ever.
    """

    handshake_deadline_s: float = 5.0
    frame_deadline_s: float = 10.0
    write_deadline_s: float = 10.0
    idle_deadline_s: float | None = None
    max_half_open: int = 256
    max_sessions: int = 4096
    max_sessions_each: int = 64

    @property
    def sweep_s(self) -> float:
        """How often the deadlines are looked at."""
        shortest = min(
            self.handshake_deadline_s,
            self.frame_deadline_s,
            self.write_deadline_s,
            self.idle_deadline_s or _MAX_SWEEP_S,
        )
        return min(_MAX_SWEEP_S, max(_MIN_SWEEP_S, shortest / 4))


@dataclass(slots=True)
class Counts:
    """What happened at a door since it was made."""

    accepted: int = 0
    admitted: int = 0
    crowded_out: int = 0
    """Dropped for a newer one, half-open or of the same consumer; or one too many."""
    overdue: int = 0
    unauthenticated: int = 0
    protocol_errors: int = 0


class ServedConnection(HalfOpenConnection, Protocol):
    """A connection, as its door sees it."""

    def overdue(self, now: float) -> bool:
        """Whether one of its deadlines is past."""

    def abort(self) -> None:
        """End it at once; what is not sent is lost."""

    def recheck(self) -> None:
        """End it unless its credential still counts."""

    def farewell(self) -> None:
        """Say the last word and end it."""


class Door(abc.ABC):
    """A listener and its connections.

    `ready` is set while it listens; `address` then says where, as people type it.
    """

    def __init__(
        self,
        limits: Limits,
        arrivals: Budget | None = None,
        expects: Callable[[int, int], bool] | None = None,
    ) -> None:
        self.limits = limits
        self._arrivals = arrivals
        self.ready = asyncio.Event()
        self.address = ""
        self.expects = expects
        """Whether a user and group may connect to a socket file; None where its mode decides."""
        self.counts = Counts()
        self.buffer = memoryview(bytearray(READ_BYTES))
        """One for all connections: what is read into it is used up before the next read."""
        self._half_open: Places[ServedConnection] = Places()
        self._sessions: dict[ServedConnection, str] = {}
        self._sessions_of: dict[str, dict[ServedConnection, None]] = {}
        self._tasks: asyncio.TaskGroup | None = None

    @property
    def sessions(self) -> int:
        """How many connections are past their handshake."""
        return len(self._sessions)

    @property
    def consumers(self) -> frozenset[str]:
        """Who is past the handshake."""
        return frozenset(self._sessions_of)

    @property
    def half_open(self) -> int:
        """How many connections are not."""
        return len(self._half_open)

    async def serve(self, handed: Sequence[socket.socket] = ()) -> None:
        """Listen and serve until cancelled; sockets `handed` over are served instead of its own.

        Raises:
            ConfigError, PermissionRefused: it cannot listen there.
        """
        sockets = list(handed) or self._listen()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.TaskGroup() as self._tasks:
                try:
                    for sock in sockets:
                        sock.setblocking(False)
                        loop.add_reader(sock, self._arrive, loop, sock)
                    self.address = describe(sockets[0])
                    self.ready.set()
                    await self._sweep(loop)
                finally:
                    self._close(loop, sockets)
                    await asyncio.sleep(0)  # for the connections to be told that they are lost
        finally:
            for sock in sockets:
                sock.close()

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `coroutine` as long as the door is open."""
        assert self._tasks is not None  # noqa: S101 - connections live inside serve()
        return self._tasks.create_task(coroutine)

    def enter(self, visitor: ServedConnection) -> None:
        """Note a new connection; of too many half-open ones one makes room."""
        self.counts.accepted += 1
        self._half_open.take(visitor)
        if len(self._half_open) > self.limits.max_half_open:
            self._crowd_out(self._half_open.one_too_many(asyncio.get_running_loop().time()))
        if len(self._half_open) + len(self._sessions) > self.limits.max_sessions:
            self._crowd_out(visitor)

    def admit(self, visitor: ServedConnection, consumer: str) -> None:
        """Note that it has shown who it is; the oldest of the consumer's own sessions makes room for it."""
        self.counts.admitted += 1
        self._half_open.give_up(visitor)
        self._half_open.remember(visitor.address)
        self._sessions[visitor] = consumer
        own = self._sessions_of.setdefault(consumer, {})
        own[visitor] = None
        if len(own) > self.limits.max_sessions_each:
            self._crowd_out(next(iter(own)))

    def leave(self, visitor: ServedConnection) -> None:
        """Forget a connection."""
        self._half_open.give_up(visitor)
        consumer = self._sessions.pop(visitor, None)
        if consumer is not None:
            own = self._sessions_of[consumer]
            del own[visitor]
            if not own:
                del self._sessions_of[consumer]

    def recheck(self, consumer: str | None = None) -> None:
        """End the sessions whose credential no longer counts: of `consumer`, or of all."""
        sessions = self._sessions if consumer is None else self._sessions_of.get(consumer, {})
        for visitor in tuple(sessions):
            visitor.recheck()

    def drop_all(self) -> None:
        """End every connection at once, without a word."""
        for visitor in (*self._half_open, *self._sessions):
            self.leave(visitor)
            visitor.abort()

    @abc.abstractmethod
    def _listen(self) -> list[socket.socket]:
        """Open what is listened on."""

    @abc.abstractmethod
    def _connection(self) -> asyncio.BaseProtocol:
        """Make the protocol of one new connection, which is a ServedConnection."""

    def _crowd_out(self, visitor: ServedConnection) -> None:
        self.counts.crowded_out += 1
        self.leave(visitor)
        visitor.abort()

    async def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            await asyncio.sleep(self.limits.sweep_s)
            for number, visitor in enumerate((*self._half_open, *self._sessions)):
                if number % SWEPT_PER_TURN == 0:
                    await asyncio.sleep(0)
                if visitor.overdue(loop.time()):
                    self.counts.overdue += 1
                    self.leave(visitor)
                    visitor.abort()

    def _arrive(self, loop: asyncio.AbstractEventLoop, listener: socket.socket) -> None:
        """Take connections, some in a row and no more than there are arrivals for; the others wait in the kernel."""
        for _ in range(ACCEPTS_PER_TURN):
            wait_s = self._arrivals.wait_s(loop.time()) if self._arrivals else 0.0
            try:
                sock = None if wait_s else listener.accept()[0]
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:  # no descriptor, no memory: accept(2)
                say_shortage(error)
                wait_s, sock = SHORTAGE_S, None
            if sock is None:
                loop.remove_reader(listener)
                loop.call_later(wait_s, self._resume, loop, listener)
                return
            if self._arrivals:
                self._arrivals.spend(1)
            if not self._lets_in(sock, loop.time()):
                sock.close()
                continue
            sock.setblocking(False)
            self.spawn(self._take_up(loop, sock))

    def _lets_in(self, sock: socket.socket, now: float) -> bool:  # noqa: ARG002 - for doors with budgets
        """Decide at accept, before anything is made for it."""
        if self.expects is None or self.expects(*credentials(sock)[1:]):
            return True
        self.counts.unauthenticated += 1
        return False

    def _resume(self, loop: asyncio.AbstractEventLoop, listener: socket.socket) -> None:
        if self.ready.is_set() and listener.fileno() >= 0:
            loop.add_reader(listener, self._arrive, loop, listener)

    async def _take_up(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        try:
            await loop.connect_accepted_socket(self._connection, sock)
        except OSError:
            sock.close()  # it has gone already
        except Exception as error:  # noqa: BLE001 - it costs this one, and no other
            sock.close()
            log_fault("a connection", error)

    def _close(self, loop: asyncio.AbstractEventLoop, listeners: list[socket.socket]) -> None:
        self.ready.clear()
        for listener in listeners:
            loop.remove_reader(listener)
        for visitor in (*self._half_open, *self._sessions):
            visitor.farewell()
