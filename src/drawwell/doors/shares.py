"""Equal shares of the event loop's time, by consumer.

A consumer has one share for all its connections. While the consumer is within its share of the
current round, its input is processed immediately. Beyond that, its connections wait and are
not read. They get turns, consumer by consumer, when a new round begins, or when the loop has
served no other consumer for a while. So a lone consumer gets all the time, and a flood delays
the other consumers by one turn per round.

A round includes a whole poll of the loop. Otherwise a consumer with more input than the loop
reads from it in a round would seem to be alone, because the others are read after it.
"""

import asyncio
import math
import time
from collections.abc import Callable
from typing import Final, ParamSpec, Protocol
from weakref import WeakKeyDictionary, WeakValueDictionary

ROUND_S: Final = 0.005
"""A round is short, because a consumer can use up its share at the beginning."""
TURN_S: Final = 0.0005
"""The time after which a connection stops answering until its next turn."""
QUIET_S: Final = 0.001
"""After this time without input that is processed immediately, turns have no limit."""
HEADROOM: Final = 1.25
"""A share is this factor times an equal part of the round, so equal consumers never wait."""

_P = ParamSpec("_P")
MOST_DEBT: Final = 10
"""The limit of a debt, in shares: a pause of the whole process is no consumer's fault."""


class Waiter(Protocol):
    """A connection that waits for its turn."""

    def take_turn(self) -> None:
        """Process the input received while waiting; never raises."""


class Share:
    """A consumer's share of a loop's time."""

    __slots__ = ("__weakref__", "_shares", "name", "round", "used_s", "waiting")

    def __init__(self, shares: "Shares", name: str) -> None:
        self.name = name
        self.round = -1
        """The last round in which the consumer took part."""
        self.used_s = 0.0
        """The time used by the consumer in that round, plus its debt from earlier rounds."""
        self.waiting: list[Waiter] = []
        self._shares = shares

    def run(self, work: Callable[_P, None], *args: _P.args, **named: _P.kwargs) -> bool:
        """Do `work` immediately, and charge its time to this consumer.

        If the consumer must wait for its turn, returns False and does nothing.
        """
        shares = self._shares
        begun = shares.clock()
        if self.waiting or not self.within(begun):
            return False
        work(*args, **named)
        shares.served_at = ended = shares.clock()
        self.used_s += ended - begun
        return True

    def within(self, now: float) -> bool:
        """Return whether the consumer has time left in the round at `now`."""
        shares = self._shares
        if now >= shares.round_ends:
            shares.begin_round(now)
        if self.round != shares.round:
            passed, self.round = shares.round - self.round, shares.round
            debt_s = min(self.used_s, MOST_DEBT * shares.slice_s)
            self.used_s = max(0.0, debt_s - passed * shares.slice_s)
            shares.active += 1
        return self.used_s < shares.slice_s

    def charge(self, cost_s: float) -> None:
        """Count time that was used for this consumer outside of its turns."""
        self.used_s += cost_s

    def wait(self, waiter: Waiter) -> None:
        """Queue `waiter` for this consumer's turn."""
        self.waiting.append(waiter)
        self._shares.wait(self)


class Shares:
    """The shares of one loop, and the waiting consumers."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.clock = clock
        self.round = 0
        self.round_ends = 0.0
        self.slice_s = ROUND_S
        """The time that each consumer may use per round."""
        self.active = 0
        """The number of consumers in the current round."""
        self.served_at = 0.0
        """When input was last processed immediately."""
        self._loop = loop
        self._of: WeakValueDictionary[str, Share] = WeakValueDictionary()
        self._waiting: dict[Share, None] = {}
        self._next: asyncio.Handle | None = None
        self._served_before = 0.0
        """The value of `served_at` at the last turns."""
        self._rests = False
        """Whether all waiting consumers have used up their shares."""

    def of(self, name: str) -> Share:
        """Return the share of a consumer, the same for all its connections."""
        share = self._of.get(name)
        if share is None:
            share = self._of[name] = Share(self, name)
        return share

    def begin_round(self, now: float) -> None:
        """Begin a new round at `now`."""
        late = int((now - self.round_ends) / ROUND_S)
        self.round += late + 1
        self.round_ends = math.inf
        self._loop.call_soon(self._loop.call_soon, self._polled, now + ROUND_S)
        others = max(1, 0 if late else self.active, len(self._waiting))
        self.slice_s = max(TURN_S, ROUND_S * HEADROOM / others)
        self.active = 0

    def _polled(self, ends: float) -> None:
        """Let the round end at `ends`: all others have been read since it began."""
        self.round_ends = max(ends, self.clock())

    def wait(self, share: Share) -> None:
        """Queue `share` for a turn."""
        self._waiting[share] = None
        if self._next is not None and self._rests:
            self._next.cancel()
            self._next = None
        if self._next is None:
            self._next, self._rests = self._loop.call_soon(self._give_turns), False

    def _give_turns(self) -> None:
        """Give a turn to each consumer within its share.

        If the loop is quiet, give turns to all consumers until `TURN_S` has passed.
        """
        self._next = None
        begun = now = self.clock()
        polled_nothing = self.served_at == self._served_before
        self._served_before = self.served_at
        quiet = polled_nothing and now - self.served_at >= QUIET_S
        for share in tuple(self._waiting):
            if not share.within(now) and not quiet:
                continue
            del self._waiting[share]
            share.waiting.pop(0).take_turn()
            if share.waiting:
                self._waiting[share] = None
            ended = self.clock()
            share.used_s += ended - now
            now = ended
            if quiet and now - begun >= TURN_S:
                break
        if self._waiting and self._next is None:
            self._rests = now == begun
            rest_s = min(self.round_ends, self.served_at + QUIET_S) - now if self._rests else 0.0
            self._next = self._loop.call_later(rest_s, self._give_turns)


_OF: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, Shares]] = WeakKeyDictionary()


def shares_of(loop: asyncio.AbstractEventLoop) -> Shares:
    """Return the shares of a loop, which are common to all its doors."""
    if loop not in _OF:
        _OF[loop] = Shares(loop)
    return _OF[loop]
