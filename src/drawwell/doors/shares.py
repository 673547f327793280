"""Equal shares of the event loop's time, by consumer.

A consumer has one share, however many connections it has. What a peer sends is handled at
once while its consumer is within its share of the round. Beyond that its connections wait
and are not read. They get turns, consumer by consumer, when a new round has begun or the
loop served no other consumer for a while. So a consumer that is alone gets all the time,
and a flood delays the others by one turn in each round.
"""

import asyncio
import time
from typing import Final, Protocol
from weakref import WeakKeyDictionary, WeakValueDictionary

ROUND_S: Final = 0.005
"""Short, as a consumer may use up its share of a round at its beginning."""
TURN_S: Final = 0.0005
"""After this time a connection stops answering; it continues in its next turn."""
QUIET_S: Final = 0.001
"""When nothing was served at once for this time, turns are given without limit."""
HEADROOM: Final = 1.25
"""Times an equal part of the round: equal consumers never wait."""

MOST_DEBT: Final = 10
"""Shares that may be overdrawn: a stop of the whole process is no consumer's fault."""


class Waiter(Protocol):
    """A connection that waits for its turn."""

    def take_turn(self) -> None:
        """Handle what was received meanwhile; never raises."""


class Share:
    """One consumer's share of the time of a loop."""

    __slots__ = ("__weakref__", "_shares", "name", "round", "used_s", "waiting")

    def __init__(self, shares: "Shares", name: str) -> None:
        self.name = name
        self.round = -1
        """The last round that it took part in."""
        self.used_s = 0.0
        """The time that it used in that round, with what it has overdrawn before."""
        self.waiting: list[Waiter] = []
        self._shares = shares

    def may_go(self, now: float) -> bool:
        """Return whether what came at `now` may be handled at once."""
        shares = self._shares
        if self.round == shares.round and now < shares.round_ends:  # as `within`, for every request
            return not self.waiting and self.used_s < shares.slice_s
        return self.within(now) and not self.waiting

    def within(self, now: float) -> bool:
        """Return whether time is left in the round of `now`.

        `now` is in seconds of `time.perf_counter`.
        """
        shares = self._shares
        if now >= shares.round_ends:
            shares.begin_round(now)
        if self.round != shares.round:
            passed, self.round = shares.round - self.round, shares.round
            debt_s = min(self.used_s, MOST_DEBT * shares.slice_s)
            self.used_s = max(0.0, debt_s - passed * shares.slice_s)
            shares.active += 1
        return self.used_s < shares.slice_s

    def spend(self, cost_s: float, now: float) -> None:
        """Count time of the loop that was used for this consumer until `now`."""
        self.used_s += cost_s
        self._shares.served_at = now

    def charge(self, cost_s: float) -> None:
        """Count time that was used for this consumer elsewhere."""
        self.used_s += cost_s

    def wait(self, waiter: Waiter) -> None:
        """Have `waiter` called in this consumer's turn."""
        self.waiting.append(waiter)
        self._shares.wait(self)


class Shares:
    """The shares of one loop, and those who wait."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.round = 0
        self.round_ends = 0.0
        self.slice_s = ROUND_S
        """What each consumer may use of a round."""
        self.active = 0
        """How many consumers took part in the round."""
        self.served_at = 0.0
        """When anything was last handled at once."""
        self._loop = loop
        self._of: WeakValueDictionary[str, Share] = WeakValueDictionary()
        self._waiting: dict[Share, None] = {}
        self._next: asyncio.Handle | None = None
        self._rests = False
        """Whether those who wait have used up their shares."""

    def of(self, name: str) -> Share:
        """Return the share of a consumer, one for all its connections."""
        share = self._of.get(name)
        if share is None:
            share = self._of[name] = Share(self, name)
        return share

    def begin_round(self, now: float) -> None:
        """Begin the round of `now`."""
        late = int((now - self.round_ends) / ROUND_S)
        self.round += late + 1
        self.round_ends = now + ROUND_S
        others = max(1, 0 if late else self.active, len(self._waiting))
        self.slice_s = max(TURN_S, ROUND_S * HEADROOM / others)
        self.active = 0

    def wait(self, share: Share) -> None:
        """Give `share` a turn."""
        self._waiting[share] = None
        if self._next is not None and self._rests:
            self._next.cancel()
            self._next = None
        if self._next is None:
            self._next, self._rests = self._loop.call_soon(self._give_turns), False

    def _give_turns(self) -> None:
        """Give turns for as long as one takes."""
        self._next = None
        begun = now = time.perf_counter()
        quiet = now - self.served_at >= QUIET_S
        for share in tuple(self._waiting):
            if not share.within(now) and not quiet:
                continue
            del self._waiting[share]
            share.waiting.pop(0).take_turn()
            if share.waiting:
                self._waiting[share] = None
            ended = time.perf_counter()
            share.used_s += ended - now
            now = ended
            if now - begun >= TURN_S:
                break
        if self._waiting and self._next is None:
            self._rests = now == begun
            rest_s = min(self.round_ends, self.served_at + QUIET_S) - now if self._rests else 0.0
            self._next = self._loop.call_later(rest_s, self._give_turns)


_OF: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, Shares]] = WeakKeyDictionary()


def shares_of(loop: asyncio.AbstractEventLoop) -> Shares:
    """Return the shares of a loop: all its doors share its time."""
    if loop not in _OF:
        _OF[loop] = Shares(loop)
    return _OF[loop]
