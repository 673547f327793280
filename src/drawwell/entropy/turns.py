"""The order of draws while the reservoir is low: equal or weighted shares.

This is stride scheduling (Waldspurger and Weihl, 1995). Each consumer has a pass, which grows
by the taken bytes divided by the consumer's weight. The lowest pass is served first. An idle
consumer's pass is raised to the queue's pass when the consumer returns, so idle time earns no
turns. Many requests by one consumer earn no more turns than one request.

A smaller request never overtakes the first in the queue, so large draws are served too.
"""

from collections import deque
from heapq import heapify, heappop, heappush
from typing import Final

_STRIDE: Final = 2**20
"""Scale of the integer passes: taken bytes times this, divided by the weight."""


class Turn:
    """A request in the queue; it needs `needed_bytes` from the reservoir."""

    __slots__ = ("consumer", "needed_bytes", "order")

    def __init__(self, consumer: str, needed_bytes: int, order: int) -> None:
        self.consumer = consumer
        self.needed_bytes = needed_bytes
        self.order = order


class Turns:
    """The queue for one reservoir."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[Turn]] = {}
        self._passes: dict[str, int] = {}
        self._present = 0
        self._order = 0
        self._heads: list[tuple[int, int, Turn]] = []
        """A heap of the first request of each consumer; some entries are outdated."""
        self.waiting_bytes = 0
        """The total bytes that the queued requests need."""

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def join(self, consumer: str, needed_bytes: int) -> Turn:
        """Queue a request behind the consumer's other requests."""
        self._order += 1
        turn = Turn(consumer, needed_bytes, self._order)
        line = self._waiting.get(consumer)
        if line is None:
            self._passes[consumer] = self._pass_of(consumer)
            line = self._waiting[consumer] = deque()
        line.append(turn)
        if line[0] is turn:
            self._push(turn)
        self.waiting_bytes += needed_bytes
        return turn

    def leave(self, turn: Turn) -> None:
        """Remove a request, served or not; ignore one that was already removed."""
        line = self._waiting.get(turn.consumer)
        if line is None or turn not in line:
            return
        was_first = line[0] is turn
        line.remove(turn)
        self.waiting_bytes -= turn.needed_bytes
        if not line:
            del self._waiting[turn.consumer]
        elif was_first:
            self._push(line[0])

    def first(self) -> Turn | None:
        """Return the first request."""
        while self._heads:
            begun, _, turn = self._heads[0]
            if self._is_head(turn) and self._passes[turn.consumer] == begun:
                return turn
            heappop(self._heads)
        return None

    def served(self, consumer: str, taken_bytes: int, weight: int) -> None:
        """Charge a consumer for taken bytes; idle time earns nothing."""
        begun = self._passes.get(consumer, 0)
        if consumer not in self._waiting:
            begun = max(begun, self._present)
        ended = self._passes[consumer] = begun + taken_bytes * _STRIDE // weight
        self._present = max(self._present, begun if self._waiting else ended)
        if line := self._waiting.get(consumer):
            self._push(line[0])

    def forget(self, consumer: str) -> None:
        """Forget a removed consumer unless one of its requests is still queued."""
        if consumer not in self._waiting:
            self._passes.pop(consumer, None)

    def _pass_of(self, consumer: str) -> int:
        """Return a consumer's pass, raised to the queue's pass if it is idle."""
        known = self._passes.get(consumer, 0)
        return known if consumer in self._waiting else max(known, self._present)

    def _push(self, turn: Turn) -> None:
        """Add a consumer's first request; rebuild the heap if it is too large."""
        heappush(self._heads, (self._passes[turn.consumer], turn.order, turn))
        if len(self._heads) > 2 * len(self._waiting) + 64:
            lines = self._waiting.items()
            self._heads = [(self._passes[name], line[0].order, line[0]) for name, line in lines]
            heapify(self._heads)

    def _is_head(self, turn: Turn) -> bool:
        line = self._waiting.get(turn.consumer)
        return line is not None and line[0] is turn
