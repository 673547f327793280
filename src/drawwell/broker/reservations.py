"""Quota reservations, on disk before anything is served from them: many in one durable write."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from drawwell.broker.batches import Batches
from drawwell.entropy.quota import QuotaState


class ReservationWriter:
    """Collects reservations while one write is under way, and writes them together next."""

    def __init__(self, lease: Callable[[Mapping[str, QuotaState]], Mapping[str, QuotaState]]) -> None:
        self._lease = lease
        self._batches = Batches(self._write_batch)
        self.run = self._batches.run

    async def reserve(self, consumer: str, state: QuotaState) -> QuotaState:
        """Return what was granted of `state`, on disk. One call at a time for each consumer.

        Raises:
            StateUnavailable: it could not be written; nothing may be served from it.
        """
        return await self._batches.submit((consumer, state))

    async def _write_batch(self, asked: Sequence[tuple[str, QuotaState]]) -> list[QuotaState]:
        granted = await asyncio.to_thread(self._lease, dict(asked))
        return [granted[consumer] for consumer, _ in asked]
