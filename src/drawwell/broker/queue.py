"""The line before the reservoir, in time: requests that wait for their turn, each as long as it has patience."""

import asyncio
from collections.abc import Callable

from drawwell.entropy.reservoir import Reservoir
from drawwell.entropy.turns import Turn, Turns
from drawwell.errors import Starved

LEAST_PATIENCE_S = 0.001
"""Less than this is no patience: timers are no finer."""


class Line:
    """Who waits for bytes of `reservoir`; `look` after every change of what is in it."""

    def __init__(self, reservoir: Reservoir) -> None:
        self._reservoir = reservoir
        self._turns = Turns()
        self._waiting: dict[Turn, asyncio.Future[None]] = {}

    def look(self) -> None:
        """Wake the first in line when there is enough for it."""
        first = self._turns.first()
        if first and first.needed_bytes <= len(self._reservoir):
            _wake(self._waiting.get(first))

    def wake_all(self) -> None:
        """Have everybody look for himself: something else than the reservoir changed."""
        for waiting in self._waiting.values():
            _wake(waiting)

    def served(self, consumer: str, taken_bytes: int, weight: int) -> None:
        """Count what a consumer took out of the reservoir."""
        self._turns.served(consumer, taken_bytes, weight)

    def forget(self, consumer: str) -> None:
        """Drop what is known of a consumer that is no more."""
        self._turns.forget(consumer)

    def short_by(self, turn: Turn | None, needed_bytes: int) -> int:
        """How many bytes must come in before a request of `needed_bytes` that waits at `turn` can be served."""
        others = self._turns.waiting_bytes - (turn.needed_bytes if turn else 0)
        return needed_bytes + others - len(self._reservoir)

    def may_go(self, turn: Turn | None, needed_bytes: int) -> bool:
        """Is there enough, and nobody before it?"""
        first = self._turns.first()
        return (first is None or first is turn) and needed_bytes <= len(self._reservoir)

    def join(self, consumer: str, needed_bytes: int) -> Turn:
        """Take a place."""
        return self._turns.join(consumer, needed_bytes)

    def leave(self, turn: Turn) -> None:
        """Give it up; the next one looks."""
        self._turns.leave(turn)
        self.look()

    async def wait(self, turn: Turn, until: float) -> None:
        """Return when it may be its turn, or at `until` on the loop's clock."""
        loop = asyncio.get_running_loop()
        waiting = self._waiting[turn] = loop.create_future()
        over = loop.call_at(until, _wake, waiting)
        try:
            await waiting
        finally:
            over.cancel()
            del self._waiting[turn]


def _wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting and not waiting.done():
        waiting.set_result(None)


class Place:
    """One draw's place in line, taken when it has to wait and given up at its end."""

    def __init__(self, line: Line, consumer: str, patience_s: float) -> None:
        self._line = line
        self._consumer = consumer
        self._patience_s = patience_s
        self._until = 0.0
        self._turn: Turn | None = None

    def may_go(self, needed_bytes: int) -> bool:
        """Is there enough in the reservoir, and nobody before it?"""
        return self._line.may_go(self._turn, needed_bytes)

    async def wait(self, needed_bytes: int, starved: Callable[[int], Starved]) -> None:
        """Wait for the turn.

        Raises:
            Starved: patience is over; made of how many bytes are missing.
        """
        now = asyncio.get_running_loop().time()
        self._until = self._until or now + self._patience_s
        if self._until - now < LEAST_PATIENCE_S:
            raise starved(max(1, self._line.short_by(self._turn, needed_bytes)))
        if self._turn is None:
            self._turn = self._line.join(self._consumer, needed_bytes)
        await self._line.wait(self._turn, self._until)

    def leave(self) -> None:
        """Give the place up."""
        if self._turn:
            self._line.leave(self._turn)
            self._turn = None
