"""A connection from QEMU: performs the I/O that `EgdMachine` decides on.

The connection survives this process if a service manager keeps a copy of its descriptor. So a
request is first peeked at (MSG_PEEK) and answered, and only then read from the socket. If this
process is killed at any moment, the next broker still finds the request. After a kill between
draw and answer, QEMU is charged for bytes that it never received. After a kill between answer
and read, the request is answered again with different bytes, and both answers are charged.
QEMU uses the second answer for its next request.
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
from drawwell.doors.shares import shares_of
from drawwell.doors.sockets import credentials
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import DrawwellError, RemoteProtocolError
from drawwell.ports import Broker
from drawwell.service.faults import log_fault

LOOKS_PER_TURN: Final = 64
"""The number of steps after which other connections have their turn."""
AHEAD_REQUESTS: Final = 160
"""The maximum number of requests for which bytes are sent ahead. Meanwhile, QEMU's requests
are unread in the socket, and a full socket blocks QEMU and its whole guest."""
_SOCKET_BYTES_PER_REQUEST: Final = 1331
"""A request counts as 768 bytes in the kernel. A buffer of 212,992 holds 277; 160 are used."""
_PEEKED_BYTES: Final = 4096
_HUNG_UP: Final = select.POLLRDHUP | select.POLLHUP | select.POLLERR
_INT: Final = struct.Struct("i")


class EgdListener(Protocol):
    """The part of the door that its connections use."""

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
        """Deregister the connection."""

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `coroutine` in a task that ends when the door closes."""

    def take_held(self, n_bytes: int) -> bytes:
        """Remove and return `n_bytes` held bytes, or none if there are fewer."""

    async def pause(self, wait_s: float) -> None:
        """Wait for `wait_s` seconds, or until the guest's terms change."""


class GuestEgdConnection:
    """A connection from QEMU (ServedConnection)."""

    address = ""

    def __init__(self, door: EgdListener, sock: socket.socket) -> None:
        self.waits = ""
        """The reason why QEMU's request waits, or "" if no request waits."""
        self._door = door
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._share = shares_of(self._loop).of(door.principal.name)
        buffer_bytes = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)  # QEMU has the same default
        most_ahead = min(AHEAD_REQUESTS, buffer_bytes // _SOCKET_BYTES_PER_REQUEST)
        self._machine = EgdMachine(send_cost, most_ahead, queued_bytes(sock))

    @property
    def owed_bytes(self) -> int:
        """The number of bytes that QEMU might be waiting for."""
        if self._hung_up():
            return 0
        queued = queued_bytes(self._sock)
        try:
            return self._machine.owed_bytes(self._peek() or b"", queued)
        except RemoteProtocolError:
            return 0

    @property
    def in_flight_bytes(self) -> int:
        """The number of sent bytes that QEMU has not read."""
        self._settle()
        return self._machine.in_flight.n_bytes

    @property
    def read_bytes(self) -> int:
        """The number of bytes that QEMU has read since this process took over."""
        self._settle()
        return self._machine.in_flight.read_bytes

    def begin(self) -> None:
        """Start serving; there is no handshake."""
        self._door.enter(self)
        self._door.admit(self, self._door.principal.name)
        self._look()

    def quiet_s(self, now: float) -> float:  # noqa: ARG002 - ServedConnection
        """Return 0, because we never wait for QEMU (ServedConnection)."""
        return 0.0

    def overdue(self, now: float) -> bool:
        """Return whether QEMU hung up or left a request incomplete for too long."""
        since = self._machine.part_since
        part_s = now - since if since is not None else 0.0
        return part_s > self._door.limits.frame_deadline_s or self._hung_up()

    def abort(self) -> None:
        """Shut down the socket and all copies of it (ServedConnection)."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self.farewell()

    def recheck(self) -> None:
        """Close unless the door still admits the peer's user (ServedConnection)."""
        _pid, uid, gid = credentials(self._sock)
        if self._door.expects is not None and not self._door.expects(uid, gid):
            self._leave()

    def farewell(self) -> None:
        """Close our copy of the socket; other copies stay connected."""
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
        """Stop waiting for events."""
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """Serve QEMU now if the consumer's share allows it, else in its turn."""
        self._rest()
        if not self._share.run(self._serve):
            self._share.wait(self)

    def take_turn(self) -> None:
        """Serve the waiting requests (Waiter)."""
        if self._sock.fileno() >= 0:
            self._serve()

    def _serve(self) -> None:
        """Serve until QEMU must wait; a bug closes only this connection."""
        try:
            for _ in range(LOOKS_PER_TURN):
                if not self._step():
                    return
        except RemoteProtocolError:
            self._door.counts.protocol_errors += 1
            self._leave()
        except Exception as error:  # noqa: BLE001 - one connection must not stop the others
            log_fault("a guest's connection", error)
            self._leave()
        else:
            self._timer = self._loop.call_later(0.0, self._look)

    def _step(self) -> bool:
        """Check for requests and answer; return whether to check again."""
        queued = queued_bytes(self._sock)  # must be read before the requests; see EgdMachine.look
        data = self._peek()
        if data and self._hung_up():  # the kernel dropped the socket's unread bytes
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
        """Answer immediately, or in a task if the draw must wait."""
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
        """Draw without a time limit: a refusal would stop the guest's generator."""
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
        """Draw without waiting; return None if that is impossible."""
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
        """Send the answer, read its requests, and return whether to check again."""
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
        """Read the answered requests; return False if QEMU is gone."""
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
        """Peek at the requests; return None if there are none, b"" at EOF."""
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
    """Return the memory held by sent, unread bytes (linux/sockios.h SIOCOUTQ)."""
    return int(_INT.unpack(fcntl.ioctl(sock, termios.TIOCOUTQ, _INT.pack(0)))[0])


@functools.cache
def send_cost(n_bytes: int) -> int:
    """Measure the memory that the kernel counts for a send of `n_bytes`."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.send(bytes(n_bytes))
        return queued_bytes(ours)
