"""A virtual machine at its EGD socket: QEMU's rng-egd asks, and loses what it asked for when the answer is lost.

So its connections outlive this process: copies of their descriptors are kept by whoever manages it, and a request is
looked at (MSG_PEEK), drawn for, answered, and only then taken out of the socket. Whatever moment the broker is killed
at, the next one finds the request where it was. Killed between draw and answer: bytes are charged that nobody had.
Killed between the answer and the taking: it is answered twice, with other bytes, which are charged, too; QEMU takes
them for its next request.

QEMU (backends/rng-egd.c) sends nothing but ``02 n``; anything else ends the connection. What it has not asked for it
leaves in the socket until it does. A guest that reads on and on asks for 64 bytes at a time, and would wait for two
processes to be woken each time. So to one that has no rate, while there is plenty, some bytes are sent ahead of its
requests: they are drawn and charged like others, arrive in order, and are the next that it gets.
"""

import asyncio
import contextlib
import select
import socket
import struct
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, Final, Protocol

from drawwell.authorisation import DRAW, DoorKind, Principal, may
from drawwell.doors.door import Counts, Limits, ServedConnection
from drawwell.doors.qemu_egd.batch import REQUEST_BYTES, Batch, read_sizes
from drawwell.doors.retry import IN_LINE_S, retry_s
from drawwell.doors.sockets import credentials
from drawwell.entropy.blocks import DrawClass, DrawRequest
from drawwell.errors import DrawwellError, RemoteProtocolError
from drawwell.ports import Broker
from drawwell.service.faults import log_fault

REQUESTS_PER_TURN: Final = 64
"""Then the other connections have their turn."""
AHEAD_REQUESTS: Final = 160
"""For so many requests at most bytes are sent ahead. While nobody reads them, requests lie in the socket; when that is
full QEMU waits, and with it the whole guest."""
_SOCKET_BYTES_PER_REQUEST: Final = 1331
"""The kernel counts 768 for two bytes, and three sevenths stay free: of 277 that fit in 212,992, 160 are used."""
_LEAST_AHEAD: Final = 32
"""For fewer requests it is not worth it."""
_MANY: Final = 16
_QUICK_S: Final = 0.05
"""So many requests, none later than that after the one before, are a guest that reads on and on."""
_SHORT_NAP_S: Final = 0.0005
_LONG_NAP_S: Final = 0.004
"""So long its requests are let gather that were answered ahead: as long as it takes for some of them to come."""
_PEEKED_BYTES: Final = 4096
_PART_S: Final = 0.05
"""How often a request that is here in part is looked at again."""
_TIMEVAL: Final = struct.Struct("ll")
_HUNG_UP: Final = select.POLLRDHUP | select.POLLHUP | select.POLLERR


class EgdListener(Protocol):
    """The door, as far as its connections use it."""

    limits: Limits
    counts: Counts
    broker: Broker
    principal: Principal
    draw_class: DrawClass
    asked: int
    plenty: Callable[[], int]
    expects: Callable[[int, int], bool] | None

    def enter(self, visitor: ServedConnection) -> None:
        """Register a new connection."""

    def admit(self, visitor: ServedConnection, consumer: str) -> None:
        """Count the connection as a session of `consumer`."""

    def leave(self, visitor: ServedConnection) -> None:
        """Forget the connection."""

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `coroutine` until the door closes."""

    def take_held(self, n_bytes: int) -> bytes:
        """Take `n_bytes` that were drawn ahead, or none if fewer are held."""

    async def pause(self, wait_s: float) -> None:
        """Wait up to `wait_s`, or until the guest's terms change."""


class GuestEgdConnection:
    """One connection of a QEMU. A ServedConnection."""

    address = ""

    def __init__(self, door: EgdListener, sock: socket.socket) -> None:
        self.waits = ""
        """Why its request waits, "" when none does."""
        self._door = door
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._again: asyncio.TimerHandle | None = None
        self._part_since: float | None = None
        self._unsent = b""
        self._ahead_bytes = _noted(sock)
        """What was sent and not asked for yet."""
        buffer_bytes = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)  # QEMU's has the same default
        self._most_ahead = min(AHEAD_REQUESTS, buffer_bytes // _SOCKET_BYTES_PER_REQUEST)
        self._nap_s = _SHORT_NAP_S
        self._quick = 0
        self._asked_at = 0.0

    @property
    def owed_bytes(self) -> int:
        """How much it asked for and was not sent."""
        if self._hung_up():
            return 0
        asked_bytes = 0
        with contextlib.suppress(RemoteProtocolError):
            asked_bytes = sum(read_sizes(self._peek() or b""))
        return max(0, asked_bytes - self._ahead_bytes)

    def begin(self) -> None:
        """Come in; there is nothing to show."""
        self._door.enter(self)
        self._door.admit(self, self._door.principal.name)
        self._listen()

    def quiet_s(self, now: float) -> float:  # noqa: ARG002 - ServedConnection
        """It is never waited for (ServedConnection)."""
        return 0.0

    def overdue(self, now: float) -> bool:
        """Whether it went while its request waits, or has not finished one that it began (ServedConnection)."""
        part_s = now - self._part_since if self._part_since is not None else 0.0
        return part_s > self._door.limits.frame_deadline_s or self._hung_up()

    def abort(self) -> None:
        """End it, also for those who keep a copy of its descriptor (ServedConnection)."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self.farewell()

    def recheck(self) -> None:
        """End it unless the door still expects its user (ServedConnection)."""
        _pid, uid, gid = credentials(self._sock)
        if self._door.expects is not None and not self._door.expects(uid, gid):
            self._leave()

    def farewell(self) -> None:
        """Let go of it; it goes on where somebody keeps it (ServedConnection)."""
        if self._sock.fileno() >= 0:
            self._rest()
            self._sock.close()
        if self._task:
            self._task.cancel()
        if self._again:
            self._again.cancel()

    def _listen(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.add_reader(self._sock, self._look)

    def _rest(self) -> None:
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)

    def _leave(self) -> None:
        self._door.leave(self)
        self.abort()

    def _look(self) -> None:
        """Answer what was asked; a fault of ours costs this connection, and no other."""
        try:
            for _ in range(REQUESTS_PER_TURN):
                if not self._answer_one():
                    return
        except RemoteProtocolError:
            self._door.counts.protocol_errors += 1
            self._leave()
        except Exception as error:  # noqa: BLE001 - whatever it is: the other connections go on
            log_fault("a guest's connection", error)
            self._leave()

    def _answer_one(self) -> bool:
        """Answer one request, or those that were answered ahead; False when there is none, or it waits."""
        data = self._peek()
        if data is None:
            return False
        sizes = read_sizes(data)
        if not sizes:
            self._look_again() if data else self._leave()
            return False
        self._part_since = None
        batch = Batch.of(sizes, self._ahead_bytes)
        self._door.asked += batch.count
        return self._begin(self._read_ahead(batch))

    def _read_ahead(self, batch: Batch) -> Batch:
        """Ask for more than was asked, when the guest reads on and on."""
        now = self._loop.time()
        self._quick = self._quick + batch.count if now - self._asked_at < _QUICK_S else 0
        self._asked_at = now
        if self._quick < _MANY:
            return batch
        requests = min(self._door.plenty() // max(1, batch.smallest_bytes), self._most_ahead)
        wanted = requests * batch.smallest_bytes
        if requests < _LEAST_AHEAD or 4 * batch.left_bytes > 3 * wanted:
            return batch
        return replace(batch, more_bytes=wanted - batch.left_bytes)

    def _look_again(self) -> None:
        """Wait for the rest: the first part would be reported again and again."""
        self._rest()
        self._part_since = self._part_since or self._loop.time()
        self._again = self._loop.call_later(_PART_S, self._listen)

    def _begin(self, batch: Batch) -> bool:
        """Answer at once, or in a task if the draw has to wait."""
        n_bytes = batch.missing_bytes + batch.more_bytes
        data = self._draw_now(n_bytes)
        if data is not None:
            return self._answer(data, batch)
        self._rest()
        self._task = self._door.spawn(self._finish(n_bytes, batch))
        return False

    async def _finish(self, n_bytes: int, batch: Batch) -> None:
        try:
            data = await self._draw(n_bytes)
        except Exception as error:  # noqa: BLE001 - as in _look
            log_fault("a guest's connection", error)
            self._leave()
            return
        finally:
            self.waits = ""
        if self._answer(data, batch):
            self._listen()

    async def _draw(self, n_bytes: int) -> bytes:
        """Draw, however long it takes: to refuse would cost the guest its generator, and operators change terms."""
        door = self._door
        while not (data := door.take_held(n_bytes)):
            self.waits = "waits in line for bytes"
            request = DrawRequest(n_bytes, door.draw_class, patience_s=IN_LINE_S)
            try:
                return (await door.broker.draw(door.principal, request)).data
            except DrawwellError as error:
                self.waits = str(error)
                await door.pause(retry_s(error))
        return data

    def _draw_now(self, n_bytes: int) -> bytes | None:
        """Draw if that need not wait; None if it has to."""
        door = self._door
        may(DoorKind.EGD, door.principal, DRAW)
        if not n_bytes:
            return b""
        if data := door.take_held(n_bytes):
            return data
        try:
            grant = door.broker.try_draw(
                door.principal, DrawRequest(n_bytes, door.draw_class, patience_s=IN_LINE_S)
            )
        except DrawwellError:
            return None
        return grant.data if grant else None

    def _answer(self, data: bytes, batch: Batch) -> bool:
        """Send the answer and only then take the requests; False when none is to be looked at now."""
        self._unsent = data
        try:
            self._unsent = self._unsent[self._sock.send(data) :] if data else b""
        except BlockingIOError:
            pass
        except OSError:
            self._leave()
            return False
        if self._unsent:
            self._rest()
            self._loop.add_writer(self._sock, self._send_rest, batch)
            return False
        return self._take(batch) and not self._nap(batch)

    def _take(self, batch: Batch) -> bool:
        """Take the requests that were answered; False when the other end is gone."""
        ahead_bytes = batch.left_bytes + batch.more_bytes
        if ahead_bytes != self._ahead_bytes:
            self._ahead_bytes = ahead_bytes
            _note(self._sock, ahead_bytes)
        try:
            self._sock.recv(batch.count * REQUEST_BYTES)
        except OSError:
            self._leave()
            return False
        return True

    def _nap(self, batch: Batch) -> bool:
        """Let requests gather while what was sent ahead lasts; False when there is too little of it."""
        if self._quick < _MANY or self._ahead_bytes < _LEAST_AHEAD * batch.smallest_bytes:
            return False
        if 4 * batch.count < self._most_ahead:
            self._nap_s = min(_LONG_NAP_S, 2 * self._nap_s)
        elif 2 * batch.count > self._most_ahead:
            self._nap_s = max(_SHORT_NAP_S, self._nap_s / 2)
        self._rest()
        self._again = self._loop.call_later(self._nap_s, self._listen)
        return True

    def _send_rest(self, batch: Batch) -> None:
        self._rest()
        if self._answer(self._unsent, batch):
            self._listen()

    def _peek(self) -> bytes | None:
        """Look at what was asked, None for nothing, b"" at the end; it stays where it is."""
        try:
            return self._sock.recv(_PEEKED_BYTES, socket.MSG_PEEK)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def _hung_up(self) -> bool:
        if self._sock.fileno() < 0:
            return True
        poll = select.poll()
        poll.register(self._sock, select.POLLRDHUP)
        return any(events & _HUNG_UP for _, events in poll.poll(0))


def _note(sock: socket.socket, ahead_bytes: int) -> None:
    """Leave a number with the socket, for the next broker: else what is sent ahead would grow with every restart.

    The timeout of a socket that never blocks means nothing, and whole seconds are kept as they are (socket(7)). It is
    noted after it was sent and before its requests are taken: whenever we are killed, it is never too high.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(ahead_bytes, 0))


def _noted(sock: socket.socket) -> int:
    seconds, _ = _TIMEVAL.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.size))
    return int(seconds)
