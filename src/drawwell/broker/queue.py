"""The queue of draws that wait for the reservoir, each with a deadline."""

import asyncio
import time
from collections.abc import Callable

from drawwell.entropy.reservoir import Reservoir
from drawwell.entropy.turns import Turn, Turns
from drawwell.errors import Starved

LEAST_PATIENCE_S = 0.001
"""A shorter patience counts as zero, because timers are not more precise."""


class DrawQueue:
    """The waiting draws, in fair order. Call `look` if the reservoir changes."""

    def __init__(self, reservoir: Reservoir) -> None:
        self._reservoir = reservoir
        self._turns = Turns()
        self._waiting: dict[Turn, asyncio.Future[None]] = {}
        self._starved_s = 0.0
        self._starved_since: float | None = None

    def starved_s(self) -> float:
        """Return the total time during which at least one draw waited."""
        since = self._starved_since
        return self._starved_s + (time.monotonic() - since if since is not None else 0.0)

    def look(self) -> None:
        """Wake the first draw if the reservoir has enough bytes for it."""
        first = self._turns.first()
        if first and first.needed_bytes <= len(self._reservoir):
            _wake(self._waiting.get(first))

    def wake_all(self) -> None:
        """Wake all waiters, because more than the reservoir's level has changed."""
        for waiting in self._waiting.values():
            _wake(waiting)

    def wake(self, consumer: str) -> None:
        """Wake a consumer's waiters, because its terms have changed."""
        for turn, waiting in self._waiting.items():
            if turn.consumer == consumer:
                _wake(waiting)

    def served(self, consumer: str, taken_bytes: int, weight: int) -> None:
        """Charge taken bytes to a consumer's fair share."""
        self._turns.served(consumer, taken_bytes, weight)

    def forget(self, consumer: str) -> None:
        """Forget a removed consumer."""
        self._turns.forget(consumer)

    def may_go(self, turn: Turn | None, needed_bytes: int) -> bool:
        """Return whether there are enough bytes and no other draw is ahead."""
        first = self._turns.first()
        return (first is None or first is turn) and needed_bytes <= len(self._reservoir)

    def short_by(self, turn: Turn | None, needed_bytes: int) -> int:
        """Return how many bytes are missing for all waiting draws and this one."""
        others = self._turns.waiting_bytes - (turn.needed_bytes if turn else 0)
        return max(1, needed_bytes + others - len(self._reservoir))

    def join(self, consumer: str, needed_bytes: int) -> Turn:
        """Join the queue."""
        if self._starved_since is None:
            self._starved_since = time.monotonic()
        return self._turns.join(consumer, needed_bytes)

    def leave(self, turn: Turn) -> None:
        """Leave the queue; wake the next draw."""
        self._turns.leave(turn)
        if self._turns.first() is None:
            self._starved_s, self._starved_since = self.starved_s(), None
        self.look()

    async def wait(self, turn: Turn, until: float) -> None:
        """Wait for a wake-up, but not beyond `until` on the loop's clock."""
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


class QueuedDraw:
    """A draw's place in the queue, from its first wait to its end."""

    def __init__(self, queue: DrawQueue, consumer: str, patience_s: float) -> None:
        self.turn: Turn | None = None
        self._queue = queue
        self._consumer = consumer
        self._since = asyncio.get_running_loop().time()
        self._until = self._since + patience_s

    @property
    def age_s(self) -> float:
        """The draw's age in seconds."""
        return asyncio.get_running_loop().time() - self._since

    async def wait(self, needed_bytes: int, starved: Callable[[int], Starved]) -> None:
        """Wait for the draw's turn, or for a change.

        Raises:
            Starved: the patience has run out; `starved` returns the error to raise.
        """
        if self._until - asyncio.get_running_loop().time() < LEAST_PATIENCE_S:
            raise starved(self._queue.short_by(self.turn, needed_bytes))
        if self.turn is None:
            self.turn = self._queue.join(self._consumer, needed_bytes)
        await self._queue.wait(self.turn, self._until)

    def leave(self) -> None:
        """Leave the queue if the draw has joined it."""
        if self.turn:
            self._queue.leave(self.turn)
            self.turn = None
