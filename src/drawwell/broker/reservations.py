"""Durable quota reservations, written in batches.

A reservation is durable before any byte is served from it. Reservations of this broker's own
consumers are written to its disk; a fleet's leases are written to the fleet's store.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from drawwell.broker.batches import Batches
from drawwell.entropy.leased_quota import LeaseAsk, LeaseGrant
from drawwell.entropy.quota import QuotaState
from drawwell.errors import StateUnavailable

_Asked = TypeVar("_Asked")
_Granted = TypeVar("_Granted")

LEASES_AT_ONCE = 256
"""Consumers per SQL statement, which locks their rows until they are replicated
(bench/fleet.py)."""


class ReservationWriter:
    """Collects reservations for the next write while a write is in progress.

    Args:
        write: Writes reservations of this broker's own consumers to disk.
        lease: Leases bytes from the fleet's store.
    """

    def __init__(
        self,
        write: Callable[[Mapping[str, QuotaState]], Mapping[str, QuotaState]],
        lease: Callable[[Mapping[str, LeaseAsk]], Mapping[str, LeaseGrant]] | None = None,
    ) -> None:
        self._own = _batches(write, 4096)
        self._leases = _batches(lease or _no_fleet, LEASES_AT_ONCE)

    async def run(self) -> None:
        """Process reservations until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._own.run())
            group.create_task(self._leases.run())

    async def reserve(self, consumer: str, wanted: QuotaState | LeaseAsk) -> QuotaState | LeaseGrant:
        """Return the durable reservation. Only one call per consumer at a time.

        Raises:
            StateUnavailable: the write failed; do not serve bytes from this reservation.
        """
        if isinstance(wanted, LeaseAsk):
            return await self._leases.submit((consumer, wanted))
        return await self._own.submit((consumer, wanted))


def _batches(
    write: Callable[[Mapping[str, _Asked]], Mapping[str, _Granted]], most: int
) -> Batches[tuple[str, _Asked], _Granted]:
    async def write_batch(asked: Sequence[tuple[str, _Asked]]) -> list[_Granted]:
        granted = await asyncio.to_thread(write, dict(asked))
        return [granted[consumer] for consumer, _ in asked]

    return Batches(write_batch, most)


def _no_fleet(_wanted: Mapping[str, LeaseAsk]) -> Mapping[str, LeaseGrant]:
    raise StateUnavailable("this broker is not in a fleet")
