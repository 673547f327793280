"""Whose turn it is when the reservoir is short: equal shares, weighted where the operator says so.

Stride scheduling (Waldspurger and Weihl, 1995): every consumer has a pass, which grows by what it took over its
weight; the lowest pass goes first. A consumer that comes back after a rest starts at the present, so that
nobody saves up turns, and one with many requests has no more turns than one with a single request.

The first in line is never passed over by a smaller request: large draws are served, too.
"""

from collections import deque
from typing import Final

_STRIDE: Final = 2**20
"""Passes are whole numbers: bytes times this over the weight."""


class Turn:
    """One request's place; `needed_bytes` is what it takes from the reservoir."""

    __slots__ = ("consumer", "needed_bytes", "order")

    def __init__(self, consumer: str, needed_bytes: int, order: int) -> None:
        self.consumer = consumer
        self.needed_bytes = needed_bytes
        self.order = order


class Turns:
    """The line before one reservoir."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[Turn]] = {}
        self._passes: dict[str, int] = {}
        self._present = 0
        self._order = 0
        self._first: Turn | None = None  # where it is known
        self.waiting_bytes = 0
        """What all that wait need together."""

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def join(self, consumer: str, needed_bytes: int) -> Turn:
        """Take a place behind this consumer's other requests."""
        self._order += 1
        turn = Turn(consumer, needed_bytes, self._order)
        if consumer not in self._waiting:
            self._passes[consumer] = self._pass_of(consumer)
        self._waiting.setdefault(consumer, deque()).append(turn)
        self._first = None
        self.waiting_bytes += needed_bytes
        return turn

    def leave(self, turn: Turn) -> None:
        """Give a place up, served or not; one that was given up before is let be."""
        line = self._waiting.get(turn.consumer)
        if line is None or turn not in line:
            return
        line.remove(turn)
        self._first = None
        self.waiting_bytes -= turn.needed_bytes
        if not line:
            del self._waiting[turn.consumer]

    def first(self) -> Turn | None:
        """Return who is first in line; asked at every deposit, so it is worked out only after a change."""
        if self._first is None and self._waiting:
            heads = [line[0] for line in self._waiting.values()]
            self._first = min(heads, key=lambda turn: (self._passes[turn.consumer], turn.order), default=None)
        return self._first

    def served(self, consumer: str, taken_bytes: int, weight: int) -> None:
        """Count what a consumer took, in line or without waiting; plenty that was had before counts for nothing."""
        self._first = None
        begun = self._passes.get(consumer, 0)
        if consumer not in self._waiting:
            begun = max(begun, self._present)
        ended = self._passes[consumer] = begun + taken_bytes * _STRIDE // weight
        self._present = max(self._present, begun if self._waiting else ended)

    def forget(self, consumer: str) -> None:
        """Drop what is known of a consumer that is no more; while a request of it stands in line that still counts."""
        if consumer not in self._waiting:
            self._passes.pop(consumer, None)

    def _pass_of(self, consumer: str) -> int:
        """Return its pass, brought up to the present when it did not wait."""
        known = self._passes.get(consumer, 0)
        return known if consumer in self._waiting else max(known, self._present)
