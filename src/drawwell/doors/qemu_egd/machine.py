"""QEMU's EGD protocol without a socket: decides what to send next.

QEMU (backends/rng-egd.c) sends ``02 n`` for each request, and nothing else. QEMU sends a
request only once, and queues it until n bytes arrive, even on a later connection. A request
made while no broker listens is lost. QEMU reads only while its queue is not empty. So one
answer is always sent ahead: while this answer is unread, QEMU is not waiting for bytes. If
QEMU reads it without a new request, it has served a lost request, and another answer is sent
ahead.

Each answer is sent separately and occupies a fixed amount of kernel memory until it is read.
The kernel's count of this memory (SIOCOUTQ) therefore shows which answers are unread.
"""

from collections import deque
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from drawwell.errors import RemoteProtocolError
from drawwell.wire.egd import READ_WAITING

REQUEST_BYTES: Final = 2
ANSWER_BYTES: Final = 64
"""The size of a Linux guest's request (drivers/char/hw_random/virtio-rng.c)."""
MANY: Final = 16
QUICK_S: Final = 0.05
"""A guest reads continuously if `MANY` requests come with less than this time between two."""
LEAST_AHEAD: Final = 32
"""The smallest number of requests for which sending ahead is worthwhile."""
_SHORT_NAP_S: Final = 0.0005
_LONG_NAP_S: Final = 0.004
"""The shortest and longest delays that let more requests arrive, to take them together."""
_PART_S: Final = 0.05
"""The interval for checking whether the rest of an incomplete request has arrived."""
_FIRST_LOOK_S: Final = 0.05
_LAST_LOOK_S: Final = 8.0
"""The first and the longest polling delay; delays double. No event reports a read by QEMU."""


class EgdState(StrEnum):
    """A connection's state; the value describes what the connection waits for."""

    LISTENING = "a request, or the time to look at what lies in the socket"
    GATHERING = "the time to look again"
    DRAWING = "bytes from the broker"
    SENDING = "room in the socket"
    CLOSED = "nothing"


class EgdEvent(StrEnum):
    """An event on a connection."""

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
"""The next state for each state and event; any event that is not listed is our bug."""


class InFlight:
    """The sent answers that QEMU has not read yet, oldest first.

    Args:
        cost: Returns the kernel memory (as in SIOCOUTQ) that a send of a given size uses.
    """

    def __init__(self, cost: Callable[[int], int]) -> None:
        self._cost = cost
        self._sends: deque[tuple[int, int]] = deque()
        self._queued_bytes = 0
        self.n_bytes = 0
        self.read_bytes = 0
        """The total number of bytes that QEMU has read."""

    def add(self, n_bytes: int) -> None:
        """Record a send."""
        cost = self._cost(n_bytes)
        self._sends.append((n_bytes, cost))
        self._queued_bytes += cost
        self.n_bytes += n_bytes

    def settle(self, queued_bytes: int) -> None:
        """Remove the sends that the kernel no longer counts: QEMU has read them."""
        while self._sends and self._queued_bytes > queued_bytes:
            n_bytes, cost = self._sends.popleft()
            self._queued_bytes -= cost
            self.n_bytes -= n_bytes
            self.read_bytes += n_bytes


class EgdMachine:
    """The state of the protocol on one connection.

    Args:
        cost: See `InFlight`.
        most_ahead: The maximum number of requests for which bytes are sent ahead.
        queued_bytes: SIOCOUTQ at the start; not 0 if an earlier broker's answers are unread.
    """

    def __init__(self, cost: Callable[[int], int], most_ahead: int, queued_bytes: int = 0) -> None:
        self.state = EgdState.LISTENING
        self.in_flight = InFlight(cost)
        for _ in range(queued_bytes // cost(ANSWER_BYTES)):
            self.in_flight.add(ANSWER_BYTES)
        self.wait_s = 0.0
        """The time until the next call of `look`, even if no request arrives."""
        self.part_since: float | None = None
        self.take_bytes = 0
        """The size of the requests to read after the answer, so that a kill loses none."""
        self.draw_bytes = 0
        """The number of bytes to draw in `EgdState.DRAWING`."""
        self._sizes: tuple[int, ...] = ()
        """The sizes of the sends into which the drawn bytes are divided."""
        self._unsent: deque[memoryview] = deque()
        self._most_ahead = most_ahead
        self._quick = 0
        self._asked_at = 0.0
        self._nap_s = _SHORT_NAP_S
        self._look_s = _FIRST_LOOK_S

    def owed_bytes(self, data: bytes, queued_bytes: int) -> int:
        """Return how many bytes QEMU might wait for; see `look` for the arguments."""
        self.in_flight.settle(queued_bytes)
        return max(0, (sum(read_sizes(data)) or ANSWER_BYTES) - self.in_flight.n_bytes)

    def look(self, data: bytes | None, queued_bytes: int, plenty_bytes: int, now: float) -> EgdState:
        """Decide what to do next.

        Args:
            data: The requests in the socket; None if there are none, b"" at EOF.
            queued_bytes: SIOCOUTQ, read before `data`.
            plenty_bytes: The number of bytes that may be sent ahead of requests.
            now: The time in seconds.

        Raises:
            RemoteProtocolError: QEMU sent something other than requests.
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
        """Accept the drawn bytes."""
        view, at = memoryview(data), 0
        for size in self._sizes:
            self._unsent.append(view[at : at + size])
            at += size
        return self._follow(EgdEvent.DRAWN)

    @property
    def unsent(self) -> memoryview:
        """The bytes to send next, in one send."""
        return self._unsent[0]

    def sent(self, n_bytes: int) -> EgdState:
        """Record how many bytes of `unsent` were sent; 0 means a full socket."""
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
        """Record that the connection has ended."""
        return self._follow(EgdEvent.ENDED)

    def _follow(self, event: EgdEvent) -> EgdState:
        self.state = TABLE[self.state][event]
        return self.state

    def _asked(self, sizes: bytes, plenty_bytes: int, now: float) -> EgdState:
        """Take all requests that were answered in advance, else the first one."""
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
        """Return the sizes of answers to send ahead to a guest that keeps reading."""
        wanted = min(plenty_bytes // size, self._most_ahead)
        missing = wanted - self.in_flight.n_bytes // size
        worth_it = self._quick >= MANY and wanted >= LEAST_AHEAD and 4 * missing >= wanted
        return (size,) * missing if worth_it else ()

    def _nap(self, count: int) -> float:
        """Return how long to wait for more requests, to take them together."""
        if self._quick < MANY:
            return 0.0
        if 4 * count < self._most_ahead:
            self._nap_s = min(_LONG_NAP_S, 2 * self._nap_s)
        elif 2 * count > self._most_ahead:
            self._nap_s = max(_SHORT_NAP_S, self._nap_s / 2)
        return self._nap_s


def paid(sizes: bytes, n_bytes: int) -> int:
    """Return how many requests `n_bytes` can answer, in their order."""
    count = 0
    for size in sizes:
        n_bytes -= size
        if n_bytes < 0:
            break
        count += 1
    return count


def read_sizes(data: bytes) -> bytes:
    """Return the requested size from each complete request, as one byte each.

    Raises:
        RemoteProtocolError: `data` contains something other than blocking reads.
    """
    commands, sizes = data[::REQUEST_BYTES], data[1::REQUEST_BYTES]
    if commands.count(READ_WAITING) != len(commands) or 0 in sizes:
        raise RemoteProtocolError("a virtual machine asks for bytes and waits for them, nothing else")
    return sizes
