"""Work that is cheaper for many items at once: signatures, durable writes."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from drawwell.errors import DrawwellError, StateUnavailable

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Batches(Generic[_Item, _Result]):
    """Collects items while a batch is under way; they are the next batch.

    Args:
        work: Returns one result for each item, in order; a DrawwellError fails them all.
        most: The largest batch.
    """

    def __init__(
        self, work: Callable[[Sequence[_Item]], Awaitable[Sequence[_Result]]], most: int = 4096
    ) -> None:
        self._work = work
        self._most = most
        self._waiting: list[tuple[_Item, asyncio.Future[_Result]]] = []
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        """Return how many items wait for the next batch."""
        return len(self._waiting)

    async def submit(self, item: _Item) -> _Result:
        """Return the result for `item`.

        A cancelled call does not stop the work; its result is dropped.

        Raises:
            StateUnavailable: the work failed; it is not done a second time.
        """
        done: asyncio.Future[_Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, done))
        self._wake.set()
        return await done

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await self._wake.wait()
            batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            if not self._waiting:
                self._wake.clear()
            try:
                results = await self._work([item for item, _ in batch])
            except DrawwellError as error:
                for _, done in batch:
                    if not done.done():  # else its caller was cancelled
                        done.set_exception(StateUnavailable(str(error), hint=error.hint))
                continue
            for (_, done), result in zip(batch, results, strict=True):
                if not done.done():
                    done.set_result(result)
