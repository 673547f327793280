"""The socket of one QEMU: does what `EgdMachine` decides.

The connection outlives this process where a service manager keeps a copy of its descriptor. So a request is looked at
(MSG_PEEK), drawn for, answered, and only then taken out of the socket: whatever moment the broker is killed at, the
next one finds the request. If it was killed between draw and answer, bytes are charged that QEMU never had. If it was
killed between the answer and the taking, the request is answered twice, with other bytes, which are charged, too; QEMU
takes them for its next request.
"""

import asyncio
import contextlib
import fcntl
import functools
import select
import socket
import struct
import termios
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

from drawwell.authorisation import DRAW, DoorKind, Principal, may
from drawwell.doors.door import Counts, Limits, ServedConnection
from drawwell.doors.qemu_egd.machine import REQUEST_BYTES, EgdMachine, EgdState
from drawwell.doors.retry import in_line, retry_s
from drawwell.doors.sockets import credentials
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import DrawwellError, RemoteProtocolError
from drawwell.ports import Broker
from drawwell.service.faults import log_fault

LOOKS_PER_TURN: Final = 64
"""After so many, other connections have their turn."""
AHEAD_REQUESTS: Final = 160
"""The most requests for which bytes are sent ahead. Unread requests lie in the socket; when it is full, QEMU waits, and
the whole guest with it."""
_SOCKET_BYTES_PER_REQUEST: Final = 1331
"""The kernel counts 768 for two bytes, and three sevenths stay free: of 277 that fit in 212,992, 160 are used."""
_PEEKED_BYTES: Final = 4096
_HUNG_UP: Final = select.POLLRDHUP | select.POLLHUP | select.POLLERR
_INT: Final = struct.Struct("i")


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
        self._timer: asyncio.TimerHandle | None = None
        buffer_bytes = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)  # QEMU's has the same default
        most_ahead = min(AHEAD_REQUESTS, buffer_bytes // _SOCKET_BYTES_PER_REQUEST)
        self._machine = EgdMachine(send_cost, most_ahead, queued_bytes(sock))

    @property
    def owed_bytes(self) -> int:
        """How much it may be waiting for."""
        if self._hung_up():
            return 0
        queued = queued_bytes(self._sock)
        try:
            return self._machine.owed_bytes(self._peek() or b"", queued)
        except RemoteProtocolError:
            return 0

    @property
    def in_flight_bytes(self) -> int:
        """What was sent and not read yet."""
        self._settle()
        return self._machine.in_flight.n_bytes

    @property
    def read_bytes(self) -> int:
        """What QEMU read since this process has the connection."""
        self._settle()
        return self._machine.in_flight.read_bytes

    def begin(self) -> None:
        """Serve it; there is no handshake."""
        self._door.enter(self)
        self._door.admit(self, self._door.principal.name)
        self._look()

    def quiet_s(self, now: float) -> float:  # noqa: ARG002 - ServedConnection
        """It is never waited for (ServedConnection)."""
        return 0.0

    def overdue(self, now: float) -> bool:
        """Whether it hung up while its request waits, or has left one unfinished (ServedConnection)."""
        since = self._machine.part_since
        part_s = now - since if since is not None else 0.0
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
        """Close our copy; the connection goes on where somebody keeps another (ServedConnection)."""
        self._machine.end()
        if self._sock.fileno() >= 0:
            self._rest()
            self._sock.close()
        if self._task:
            self._task.cancel()

    def _leave(self) -> None:
        self._door.leave(self)
        self.abort()

    def _rest(self) -> None:
        """Wait for nothing."""
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """Look and answer until there is something to wait for; a fault of ours costs this connection alone."""
        self._rest()
        try:
            for _ in range(LOOKS_PER_TURN):
                if not self._step():
                    return
        except RemoteProtocolError:
            self._door.counts.protocol_errors += 1
            self._leave()
        except Exception as error:  # noqa: BLE001 - whatever it is: the other connections go on
            log_fault("a guest's connection", error)
            self._leave()
        else:
            self._timer = self._loop.call_later(0.0, self._look)

    def _step(self) -> bool:
        """Look once, and answer if that need not wait; whether to look again now."""
        queued = queued_bytes(self._sock)  # before the requests, see EgdMachine.look
        data = self._peek()
        if data and self._hung_up():  # the kernel has dropped what lay in the socket: it was not read
            data = b""
        match self._machine.look(data, queued, self._door.plenty(), self._loop.time()):
            case EgdState.DRAWING:
                return self._draw()
            case EgdState.GATHERING:
                return self._take() and self._later(self._machine.wait_s)
            case EgdState.LISTENING:
                self._loop.add_reader(self._sock, self._look)
                return self._later(self._machine.wait_s)
        self._leave()
        return False

    def _later(self, wait_s: float) -> bool:
        if wait_s:
            self._timer = self._loop.call_later(wait_s, self._look)
        return not wait_s

    def _draw(self) -> bool:
        """Answer at once, or in a task if the draw has to wait."""
        data = self._draw_now(self._machine.draw_bytes)
        if data is None:
            self._task = self._door.spawn(self._finish())
            return False
        self._machine.drawn(data)
        return self._send()

    async def _finish(self) -> None:
        try:
            data = await self._draw_later(self._machine.draw_bytes)
        except Exception as error:  # noqa: BLE001 - as in _look
            log_fault("a guest's connection", error)
            self._leave()
            return
        finally:
            self.waits = ""
        self._machine.drawn(data)
        self._send_rest()

    async def _draw_later(self, n_bytes: int) -> bytes:
        """Draw, however long it takes: a refusal would cost the guest its generator, and operators change terms."""
        door = self._door
        while not (data := door.take_held(n_bytes)):
            self.waits = "waits in line for bytes"
            try:
                request = in_line(n_bytes, door.draw_class)
                return (await door.broker.draw(door.principal, request)).data
            except DrawwellError as error:
                self.waits = str(error)
                await door.pause(retry_s(error))
        return data

    def _draw_now(self, n_bytes: int) -> bytes | None:
        """Draw if that need not wait; None if it has to."""
        door = self._door
        may(DoorKind.EGD, door.principal, DRAW)
        if data := door.take_held(n_bytes):
            return data
        try:
            grant = door.broker.try_draw(door.principal, in_line(n_bytes, door.draw_class))
        except DrawwellError:
            return None
        return grant.data if grant else None

    def _send(self) -> bool:
        """Send the answer, then take its requests; whether to look again now."""
        while self._machine.state is EgdState.SENDING:
            try:
                sent_bytes = self._sock.send(self._machine.unsent)
            except BlockingIOError:
                sent_bytes = 0
            except OSError:
                self._leave()
                return False
            self._machine.sent(sent_bytes)
            if not sent_bytes:
                self._loop.add_writer(self._sock, self._send_rest)
                return False
        return self._take()

    def _send_rest(self) -> None:
        self._rest()
        if self._send():
            self._look()

    def _take(self) -> bool:
        """Take the requests that were answered; False if the other end has gone."""
        take_bytes = self._machine.take_bytes
        self._door.asked += take_bytes // REQUEST_BYTES
        try:
            if take_bytes:
                self._sock.recv(take_bytes)
        except OSError:
            self._leave()
            return False
        return True

    def _peek(self) -> bytes | None:
        """Return the requests, None for none, b"" at EOF; they stay where they are."""
        try:
            return self._sock.recv(_PEEKED_BYTES, socket.MSG_PEEK)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def _settle(self) -> None:
        if not self._hung_up():
            self._machine.in_flight.settle(queued_bytes(self._sock))

    def _hung_up(self) -> bool:
        if self._sock.fileno() < 0:
            return True
        poll = select.poll()
        poll.register(self._sock, select.POLLRDHUP)
        return any(events & _HUNG_UP for _, events in poll.poll(0))


def queued_bytes(sock: socket.socket) -> int:
    """Return the kernel's memory that holds what was sent and not read yet (SIOCOUTQ, linux/sockios.h)."""
    return int(_INT.unpack(fcntl.ioctl(sock, termios.TIOCOUTQ, _INT.pack(0)))[0])


@functools.cache
def send_cost(n_bytes: int) -> int:
    """Return the memory that the kernel counts for one send of `n_bytes`, by trying it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.send(bytes(n_bytes))
        return queued_bytes(ours)
