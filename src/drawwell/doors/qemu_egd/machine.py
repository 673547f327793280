"""QEMU's EGD protocol without a socket: what to send next.

QEMU (backends/rng-egd.c) sends ``02 n`` for each request, and nothing else. It keeps the
request in a queue until n bytes have come, across connections too, but sends it once: a
request made while no broker listens never arrives here. It reads nothing while its queue is
empty. So one answer always lies ahead in the socket: as long as it lies there, QEMU waits for
nothing. If it is read without a request, it went to a lost one, and the next answer follows.

The kernel's count of a socket's memory (SIOCOUTQ) gives what QEMU has not read yet: each
answer is a send of its own, and holds a fixed amount of memory until it is read.
"""

from collections import deque
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from drawwell.errors import RemoteProtocolError
from drawwell.wire.egd import READ_WAITING

REQUEST_BYTES: Final = 2
ANSWER_BYTES: Final = 64
"""What a Linux guest asks for at a time (drivers/char/hw_random/virtio-rng.c)."""
MANY: Final = 16
QUICK_S: Final = 0.05
"""`MANY` requests, none later than this after the one before: the guest reads on and on."""
LEAST_AHEAD: Final = 32
"""For fewer requests, sending ahead is not worth it."""
_SHORT_NAP_S: Final = 0.0005
_LONG_NAP_S: Final = 0.004
"""How long paid requests gather: as long as it takes for some of them to come."""
_PART_S: Final = 0.05
"""How often a request of which half is here is looked at again."""
_FIRST_LOOK_S: Final = 0.05
_LAST_LOOK_S: Final = 8.0
"""How soon the socket is looked at again, each time twice as late: no event shows a read."""


class EgdState(StrEnum):
    """What the connection waits for."""

    LISTENING = "a request, or the time to look at what lies in the socket"
    GATHERING = "the time to look again"
    DRAWING = "bytes from the broker"
    SENDING = "room in the socket"
    CLOSED = "nothing"


class EgdEvent(StrEnum):
    """What happened."""

    QUIET = "there is no request"
    PART = "there is half a request"
    PAID = "requests are paid by what lies in the socket"
    OWED = "bytes must be drawn"
    DRAWN = "they were drawn"
    FULL = "the socket takes no more for now"
    SENT = "everything was sent"
    ENDED = "QEMU has gone"


_S, _E = EgdState, EgdEvent
_LOOKED: Final = {
    _E.QUIET: _S.LISTENING,
    _E.PART: _S.GATHERING,
    _E.PAID: _S.GATHERING,
    _E.OWED: _S.DRAWING,
    _E.ENDED: _S.CLOSED,
}
TABLE: Final = {
    _S.LISTENING: _LOOKED,
    _S.GATHERING: _LOOKED,
    _S.DRAWING: {_E.DRAWN: _S.SENDING, _E.ENDED: _S.CLOSED},
    _S.SENDING: {_E.FULL: _S.SENDING, _E.SENT: _S.LISTENING, _E.ENDED: _S.CLOSED},
    _S.CLOSED: {_E.ENDED: _S.CLOSED},
}
"""The state that follows on each event; any other event in that state is a fault of ours."""


class InFlight:
    """Answers that were sent and that QEMU has not read yet, oldest first.

    Args:
        cost: The kernel's memory, in bytes of SIOCOUTQ, for a send of that many bytes.
    """

    def __init__(self, cost: Callable[[int], int]) -> None:
        self._cost = cost
        self._sends: deque[tuple[int, int]] = deque()
        self._queued_bytes = 0
        self.n_bytes = 0
        self.read_bytes = 0
        """What QEMU read in all."""

    def add(self, n_bytes: int) -> None:
        """Note a send."""
        cost = self._cost(n_bytes)
        self._sends.append((n_bytes, cost))
        self._queued_bytes += cost
        self.n_bytes += n_bytes

    def settle(self, queued_bytes: int) -> None:
        """Drop what the kernel no longer counts: QEMU has read it."""
        while self._sends and self._queued_bytes > queued_bytes:
            n_bytes, cost = self._sends.popleft()
            self._queued_bytes -= cost
            self.n_bytes -= n_bytes
            self.read_bytes += n_bytes


class EgdMachine:
    """One connection.

    Args:
        cost: See `InFlight`.
        most_ahead: For how many requests bytes may lie in the socket.
        queued_bytes: What the kernel counts already, if an earlier broker served it.
    """

    def __init__(self, cost: Callable[[int], int], most_ahead: int, queued_bytes: int = 0) -> None:
        self.state = EgdState.LISTENING
        self.in_flight = InFlight(cost)
        for _ in range(queued_bytes // cost(ANSWER_BYTES)):
            self.in_flight.add(ANSWER_BYTES)
        self.wait_s = 0.0
        """How soon to look again, also if no request comes before."""
        self.part_since: float | None = None
        self.take_bytes = 0
        """What is taken out of the socket, after the answer: no request is lost by a kill."""
        self.draw_bytes = 0
        """What is drawn in `EgdState.DRAWING`."""
        self._sizes: tuple[int, ...] = ()
        """Of the sends that are drawn for."""
        self._unsent: deque[memoryview] = deque()
        self._most_ahead = most_ahead
        self._quick = 0
        self._asked_at = 0.0
        self._nap_s = _SHORT_NAP_S
        self._look_s = _FIRST_LOOK_S

    def owed_bytes(self, data: bytes, queued_bytes: int) -> int:
        """Return what QEMU may be waiting for; arguments as for `look`."""
        self.in_flight.settle(queued_bytes)
        return max(0, (sum(read_sizes(data)) or ANSWER_BYTES) - self.in_flight.n_bytes)

    def look(self, data: bytes | None, queued_bytes: int, plenty_bytes: int, now: float) -> EgdState:
        """Decide what comes next.

        Args:
            data: The requests in the socket: None for none, b"" at EOF.
            queued_bytes: SIOCOUTQ, read before `data`.
            plenty_bytes: What may be sent ahead of requests.
            now: In seconds.

        Raises:
            RemoteProtocolError: something else than requests.
        """
        self.take_bytes = 0
        if data == b"":
            return self._follow(EgdEvent.ENDED)
        self.in_flight.settle(queued_bytes)
        sizes = read_sizes(data or b"")
        if data and not sizes:
            self.part_since = self.part_since if self.part_since is not None else now
            self.wait_s = _PART_S
            return self._follow(EgdEvent.PART)
        self.part_since = None
        if sizes:
            return self._asked(sizes, plenty_bytes, now)
        if self.in_flight.n_bytes < ANSWER_BYTES:
            return self._owe((ANSWER_BYTES,))
        self.wait_s, self._look_s = self._look_s, min(_LAST_LOOK_S, 2 * self._look_s)
        return self._follow(EgdEvent.QUIET)

    def drawn(self, data: bytes) -> EgdState:
        """Take the bytes that were drawn."""
        view, at = memoryview(data), 0
        for size in self._sizes:
            self._unsent.append(view[at : at + size])
            at += size
        return self._follow(EgdEvent.DRAWN)

    @property
    def unsent(self) -> memoryview:
        """What is to be sent next, in one send."""
        return self._unsent[0]

    def sent(self, n_bytes: int) -> EgdState:
        """Note how much of `unsent` was sent; 0 means that the socket is full."""
        if not n_bytes:
            return self._follow(EgdEvent.FULL)
        self.in_flight.add(n_bytes)
        if rest := self._unsent.popleft()[n_bytes:]:
            self._unsent.appendleft(rest)
        if self._unsent:
            return self.state
        self._look_s = _FIRST_LOOK_S
        return self._follow(EgdEvent.SENT)

    def end(self) -> EgdState:
        """Note that the connection is over."""
        return self._follow(EgdEvent.ENDED)

    def _follow(self, event: EgdEvent) -> EgdState:
        self.state = TABLE[self.state][event]
        return self.state

    def _asked(self, sizes: bytes, plenty_bytes: int, now: float) -> EgdState:
        """Take the requests that are paid, or the first if none is."""
        count = paid(sizes, self.in_flight.n_bytes - ANSWER_BYTES)
        owed = () if count else (sizes[0],)
        count = count or 1
        self.take_bytes = count * REQUEST_BYTES
        self._quick = self._quick + count if now - self._asked_at < QUICK_S else 0
        self._asked_at = now
        self._look_s = _FIRST_LOOK_S
        more = self._more(min(sizes), plenty_bytes)
        if owed or more:
            return self._owe((*owed, *more))
        self.wait_s = self._nap(count)
        return self._follow(EgdEvent.PAID)

    def _owe(self, sizes: tuple[int, ...]) -> EgdState:
        self._sizes = sizes
        self.draw_bytes = sum(sizes)
        return self._follow(EgdEvent.OWED)

    def _more(self, size: int, plenty_bytes: int) -> tuple[int, ...]:
        """Return what is sent ahead to a guest that reads on and on."""
        wanted = min(plenty_bytes // size, self._most_ahead)
        missing = wanted - self.in_flight.n_bytes // size
        worth_it = self._quick >= MANY and wanted >= LEAST_AHEAD and 4 * missing >= wanted
        return (size,) * missing if worth_it else ()

    def _nap(self, count: int) -> float:
        """Return how long paid requests gather."""
        if self._quick < MANY:
            return 0.0
        if 4 * count < self._most_ahead:
            self._nap_s = min(_LONG_NAP_S, 2 * self._nap_s)
        elif 2 * count > self._most_ahead:
            self._nap_s = max(_SHORT_NAP_S, self._nap_s / 2)
        return self._nap_s


def paid(sizes: bytes, n_bytes: int) -> int:
    """Return how many of the requests, in their order, `n_bytes` suffice for."""
    count = 0
    for size in sizes:
        n_bytes -= size
        if n_bytes < 0:
            break
        count += 1
    return count


def read_sizes(data: bytes) -> bytes:
    """Return how much each whole request in `data` asks for, a byte each.

    Raises:
        RemoteProtocolError: something else than reads that wait.
    """
    commands, sizes = data[::REQUEST_BYTES], data[1::REQUEST_BYTES]
    if commands.count(READ_WAITING) != len(commands) or 0 in sizes:
        raise RemoteProtocolError("a virtual machine asks for bytes and waits for them, nothing else")
    return sizes
