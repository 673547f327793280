"""Quota reservations, on disk before anything is served from them: many in one durable write."""

import asyncio
from collections.abc import Callable, Mapping

from drawwell.entropy.quota import QuotaState
from drawwell.errors import StateUnavailable


class ReservationWriter:
    """Collects reservations while one write is under way, and writes them together next."""

    def __init__(self, lease: Callable[[Mapping[str, QuotaState]], Mapping[str, QuotaState]]) -> None:
        self._lease = lease
        self._pending: dict[str, QuotaState] = {}
        self._waiting: list[tuple[str, asyncio.Future[QuotaState]]] = []
        self._wake = asyncio.Event()

    async def reserve(self, consumer: str, state: QuotaState) -> QuotaState:
        """Return what was granted of `state`, on disk. One call at a time for each consumer.

        Raises:
            StateUnavailable: it could not be written; nothing may be served from it.
        """
        done: asyncio.Future[QuotaState] = asyncio.get_running_loop().create_future()
        self._pending[consumer] = state
        self._waiting.append((consumer, done))
        self._wake.set()
        return await done

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            batch, self._pending = self._pending, {}
            waiting, self._waiting = self._waiting, []
            granted = await self._write_batch(batch)
            for consumer, done in waiting:
                if done.done():  # its draw was cancelled
                    continue
                if isinstance(granted, StateUnavailable):
                    done.set_exception(StateUnavailable(str(granted), hint=granted.hint))
                else:
                    done.set_result(granted[consumer])

    async def _write_batch(
        self, batch: Mapping[str, QuotaState]
    ) -> Mapping[str, QuotaState] | StateUnavailable:
        try:
            return await asyncio.to_thread(self._lease, batch)
        except StateUnavailable as error:
            return error
