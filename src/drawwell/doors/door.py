"""The base of all doors: listen, admit, enforce deadlines, close.

Memory is bounded before a peer is identified: beyond `max_half_open` half-open connections,
the address with the most of them loses one. There are at most `max_sessions` connections in
total. Beyond `max_sessions_each`, a consumer's oldest session is closed, so consumers cannot
displace each other, and dead sessions do not accumulate. A sweep checks all deadlines.
"""

import abc
import asyncio
import socket
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from drawwell.doors.admission import ARRIVAL_COST, Budget, HalfOpenConnection, Places
from drawwell.doors.sockets import credentials, describe
from drawwell.service.faults import log_fault, say_shortage

READ_BYTES: Final = 1024
"""The maximum size of one read: about 38 TLS records that each contain a key update."""
ACCEPTS_PER_TURN: Final = 16
"""The number of accepted connections after which open connections have their turn."""
SHORTAGE_S: Final = 1.0
"""How long accepting pauses after EMFILE or ENOMEM."""
SWEPT_PER_TURN: Final = 64
"""Connections checked per turn: checking ten thousand at once would delay a draw by 25 ms."""
_MIN_SWEEP_S: Final = 0.01
_MAX_SWEEP_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Deadlines and connection limits of a door.

    Deadlines are enforced with a delay of at most a quarter of the shortest deadline.

    handshake_deadline_s: from the connection to the welcome.
    frame_deadline_s: from the first byte of a frame to the last.
    write_deadline_s: how long the peer can leave output unread.
    idle_deadline_s: how long a peer without open requests can be silent; None means no limit.
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
        """The interval between two sweeps."""
        shortest = min(
            self.handshake_deadline_s,
            self.frame_deadline_s,
            self.write_deadline_s,
            self.idle_deadline_s or _MAX_SWEEP_S,
        )
        return min(_MAX_SWEEP_S, max(_MIN_SWEEP_S, shortest / 4))


@dataclass(slots=True)
class Counts:
    """A door's counts of events since its creation."""

    accepted: int = 0
    admitted: int = 0
    crowded_out: int = 0
    """Connections dropped because there were too many, in total or of one consumer."""
    overdue: int = 0
    unauthenticated: int = 0
    protocol_errors: int = 0


class ServedConnection(HalfOpenConnection, Protocol):
    """The door's interface to a connection."""

    def overdue(self, now: float) -> bool:
        """Return whether a deadline has passed."""

    def abort(self) -> None:
        """Close immediately; unsent output is lost."""

    def recheck(self) -> None:
        """Close unless the peer's credential is still valid."""

    def farewell(self) -> None:
        """Send a goodbye and close."""


class Door(abc.ABC):
    """A listener and its connections.

    `ready` is set while the door listens; `address` is then its printable address.
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
        """Returns whether a user and group may connect; None if the file's mode decides."""
        self.counts = Counts()
        self.buffer = memoryview(bytearray(READ_BYTES))
        """The read buffer of all connections: each read is processed before the next read."""
        self._half_open: Places[ServedConnection] = Places()
        self._sessions: dict[ServedConnection, str] = {}
        self._sessions_of: dict[str, dict[ServedConnection, None]] = {}
        self._tasks: asyncio.TaskGroup | None = None

    @property
    def sessions(self) -> int:
        """The number of connections that have finished their handshake."""
        return len(self._sessions)

    @property
    def consumers(self) -> frozenset[str]:
        """The consumers that have a session."""
        return frozenset(self._sessions_of)

    @property
    def half_open(self) -> int:
        """The number of connections that have not finished their handshake."""
        return len(self._half_open)

    async def serve(self, handed: Sequence[socket.socket] = ()) -> None:
        """Listen and serve until cancelled, on the sockets in `handed` if any.

        Raises:
            ConfigError, PermissionRefused: the door cannot listen at its address.
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
                    await asyncio.sleep(0)  # asyncio calls connection_lost in the next turn
        finally:
            for sock in sockets:
                sock.close()

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `coroutine` in a task that ends when the door closes."""
        assert self._tasks is not None  # noqa: S101 - connections exist only during serve()
        return self._tasks.create_task(coroutine)

    def enter(self, visitor: ServedConnection) -> None:
        """Register a new connection; drop one if there are too many."""
        self.counts.accepted += 1
        self._half_open.take(visitor)
        if len(self._half_open) > self.limits.max_half_open:
            self._crowd_out(self._half_open.one_too_many(asyncio.get_running_loop().time()))
        if len(self._half_open) + len(self._sessions) > self.limits.max_sessions:
            self._crowd_out(visitor)

    def admit(self, visitor: ServedConnection, consumer: str) -> None:
        """Register a session of `consumer`; close its oldest if it has too many."""
        self.counts.admitted += 1
        if self._arrivals:
            self._arrivals.spend(1 - ARRIVAL_COST)
        self._half_open.give_up(visitor)
        self._half_open.remember(visitor.address)
        self._sessions[visitor] = consumer
        own = self._sessions_of.setdefault(consumer, {})
        own[visitor] = None
        if len(own) > self.limits.max_sessions_each:
            self._crowd_out(next(iter(own)))

    def leave(self, visitor: ServedConnection) -> None:
        """Deregister a connection."""
        self._half_open.give_up(visitor)
        consumer = self._sessions.pop(visitor, None)
        if consumer is not None:
            own = self._sessions_of[consumer]
            del own[visitor]
            if not own:
                del self._sessions_of[consumer]

    def recheck(self, consumer: str | None = None) -> None:
        """Close sessions without a valid credential, by default of all consumers."""
        sessions = self._sessions if consumer is None else self._sessions_of.get(consumer, {})
        for visitor in tuple(sessions):
            visitor.recheck()

    def drop_all(self) -> None:
        """Close all connections immediately, without a goodbye."""
        for visitor in (*self._half_open, *self._sessions):
            self.leave(visitor)
            visitor.abort()

    @abc.abstractmethod
    def _listen(self) -> list[socket.socket]:
        """Open the listening sockets."""

    @abc.abstractmethod
    def _connection(self) -> asyncio.BaseProtocol:
        """Create the protocol of a new connection, a ServedConnection."""

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
        """Accept connections within the budget; the others wait in the kernel."""
        for _ in range(ACCEPTS_PER_TURN):
            wait_s = self._arrivals.wait_s(loop.time()) if self._arrivals else 0.0
            try:
                sock = None if wait_s else listener.accept()[0]
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:  # EMFILE, ENOMEM: accept(2)
                say_shortage(error)
                wait_s, sock = SHORTAGE_S, None
            if sock is None:
                loop.remove_reader(listener)
                loop.call_later(wait_s, self._resume, loop, listener)
                return
            if self._arrivals:
                self._arrivals.spend(ARRIVAL_COST)
            if not self._lets_in(sock, loop.time()):
                sock.close()
                continue
            sock.setblocking(False)
            self.spawn(self._take_up(loop, sock))

    def _lets_in(self, sock: socket.socket, now: float) -> bool:  # noqa: ARG002 - for doors with budgets
        """Return whether to keep an accepted connection, before it uses memory."""
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
            sock.close()  # already closed by the peer
        except Exception as error:  # noqa: BLE001 - one connection must not stop the others
            sock.close()
            log_fault("a connection", error)

    def _close(self, loop: asyncio.AbstractEventLoop, listeners: list[socket.socket]) -> None:
        self.ready.clear()
        for listener in listeners:
            loop.remove_reader(listener)
        for visitor in (*self._half_open, *self._sessions):
            visitor.farewell()
