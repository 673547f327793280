"""Quota reservations, on disk before anything is served from them: many in one durable write."""

import asyncio
from collections.abc import Callable, Mapping

from drawwell.entropy.quota import QuotaState
from drawwell.errors import DrawwellError, StateUnavailable


class ReservationWriter:
    """Collects reservations while one write is under way, and writes them together next."""

    def __init__(self, write: Callable[[Mapping[str, QuotaState]], None]) -> None:
        self._write = write
        self._pending: dict[str, QuotaState] = {}
        self._waiting: list[asyncio.Future[None]] = []
        self._wake = asyncio.Event()

    async def reserve(self, consumer: str, state: QuotaState) -> None:
        """Return when `state` is on disk. One call at a time for each consumer.

        Raises:
            StateUnavailable: it could not be written; nothing may be served from it.
        """
        done = asyncio.get_running_loop().create_future()
        self._pending[consumer] = state
        self._waiting.append(done)
        self._wake.set()
        await done

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            batch, self._pending = self._pending, {}
            waiting, self._waiting = self._waiting, []
            failure = await self._write_batch(batch)
            for done in waiting:
                if done.done():  # its draw was cancelled
                    continue
                if failure:
                    done.set_exception(StateUnavailable(str(failure), hint=failure.hint))
                else:
                    done.set_result(None)

    async def _write_batch(self, batch: Mapping[str, QuotaState]) -> DrawwellError | None:
        try:
            await asyncio.to_thread(self._write, batch)
        except StateUnavailable as error:
            return error
        return None
