"""Batches signatures and durable writes to save time."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from drawwell.errors import DrawwellError, StateUnavailable

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Batches(Generic[_Item, _Result]):
    """Collects items for the next batch while a batch is in progress.

    Args:
        work: Returns one result per item, in order. A DrawwellError fails the whole batch.
        most: The maximum size of a batch.
    """

    def __init__(
        self, work: Callable[[Sequence[_Item]], Awaitable[Sequence[_Result]]], most: int = 4096
    ) -> None:
        self._work = work
        self._most = most
        self._waiting: list[tuple[_Item, asyncio.Future[_Result]]] = []
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        """Return how many items are waiting for a batch."""
        return len(self._waiting)

    async def submit(self, item: _Item) -> _Result:
        """Wait for the batch with `item`; return the item's result.

        Cancelling the call does not stop the work; it only drops the result.

        Raises:
            StateUnavailable: the work failed; it is not retried.
        """
        done: asyncio.Future[_Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, done))
        self._wake.set()
        return await done

    async def run(self) -> None:
        """Process batches until cancelled."""
        while True:
            await self._wake.wait()
            batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            if not self._waiting:
                self._wake.clear()
            try:
                results = await self._work([item for item, _ in batch])
            except DrawwellError as error:
                for _, done in batch:
                    if not done.done():  # unless its caller was cancelled
                        done.set_exception(StateUnavailable(str(error), hint=error.hint))
                continue
            for (_, done), result in zip(batch, results, strict=True):
                if not done.done():
                    done.set_result(result)
