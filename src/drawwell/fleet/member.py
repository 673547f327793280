"""A broker's part in its fleet: consumers, leases and changes."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Final
from weakref import WeakValueDictionary

from drawwell.config.model import Config
from drawwell.entropy.leased_quota import LeaseAsk, LeasedQuota, LeaseGrant, Unused
from drawwell.errors import StateUnavailable
from drawwell.fleet.feed import ChangeFeed
from drawwell.fleet.heartbeat import Heartbeat
from drawwell.fleet.leases import Leases
from drawwell.fleet.own_row import OwnRow
from drawwell.fleet.parts import open_store, store_address
from drawwell.state.port import Changes
from drawwell.units import Allowance

log = logging.getLogger("drawwell.fleet")

IDLE_S: Final = 30.0
"""A lease that was not used for this long is returned."""
SWEEP_S: Final = 10.0
DROP_EVERY_S: Final = 3600.0


class FleetMember:
    """The state that a broker shares with the other brokers.

    Args:
        config: A configuration with [fleet].
        follow: Called with the changes to consumers.
        clock: Seconds; never goes back, and continues while the machine is suspended.
        describe: Returns this broker's row without leases and changes.

    Raises:
        ConfigError: the address cannot be used.
        StateUnavailable: the store cannot be used, or another broker uses this name.
    """

    def __init__(
        self,
        config: Config,
        follow: Callable[[Changes], Awaitable[None]],
        clock: Callable[[], float],
        describe: Callable[[], OwnRow],
    ) -> None:
        name, address = config.broker.name, store_address(config)
        self.store = open_store(config)
        self._leases = Leases(address, name)
        self._feed = ChangeFeed(address, name, follow, config.fleet.grace)
        self._heartbeat = Heartbeat(address, name, config.fleet.grace, self._row)
        self.report, self.rows = self._heartbeat.report, self._heartbeat.rows
        self.cut_off = self._feed.cut_off
        self._describe = describe
        self._clock = clock
        self._quotas: WeakValueDictionary[str, LeasedQuota] = WeakValueDictionary()
        try:
            self._feed.start()
            self.boot_epoch = self.store.next_epoch()
            """A number that no other run of any broker in the fleet has."""
        except BaseException:
            self._close()
            raise

    def quota(self, consumer: str, rate: Allowance | None, total: Allowance | None) -> LeasedQuota:
        """Return a consumer's quota, which is shared by the fleet."""
        quota = self._quotas[consumer] = LeasedQuota(rate, total, self._feed.require)
        return quota

    def lease(self, wanted: Mapping[str, LeaseAsk]) -> Mapping[str, LeaseGrant]:
        """Request leases for many consumers; see `Leases.lease`."""
        return self._leases.lease(wanted)

    async def run(self) -> None:
        """Apply changes, return idle leases and drop old ones, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._feed.run())
            group.create_task(self._return_idle())
            group.create_task(self._drop_ended())
            group.create_task(self._heartbeat.run())

    def forfeit(self) -> None:
        """Forget every lease, because a copy of this machine may also use it."""
        for quota in self._quotas.values():
            quota.forfeit()

    def notes(self) -> tuple[str, ...]:
        """Return notes for the operator; a note is "" if it does not apply."""
        standing = self._feed.standing
        too_much = standing.too_much if standing else ""
        risk = (
            "the fleet's store has an asynchronous standby: quotas may be exceeded if the primary fails"
            if standing and standing.replication == "asynchronous"
            else ""
        )
        rights = (
            f"the role of this broker in the fleet's store has rights that it must not have: {too_much}"
            if too_much
            else ""
        )
        return self._feed.note(), risk, rights

    def close(self) -> None:
        """Return every lease and leave the fleet."""
        with suppress(StateUnavailable):
            self._leases.give_back(self._unused(0.0))
        self._close()

    def _row(self) -> OwnRow:
        own, leased = self._describe(), [quota.leased_bytes for quota in tuple(self._quotas.values())]
        held = {"leases": sum(map(bool, leased)), "leased_bytes": sum(leased)}
        return replace(own, report={**own.report, **held}, changes_read=self._feed.last)

    def _close(self) -> None:
        self._heartbeat.close()
        self._feed.close()
        self._leases.close()
        self.store.close()

    async def _return_idle(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                await asyncio.to_thread(self._leases.give_back, self._unused(IDLE_S))
            except StateUnavailable as error:
                log.warning("cannot return idle leases: %s", error)

    async def _drop_ended(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self._leases.drop_ended)
            except StateUnavailable as error:
                log.warning("cannot delete ended leases yet: %s", error)
            await asyncio.sleep(DROP_EVERY_S)

    def _unused(self, idle_s: float) -> dict[str, Unused]:
        """Take idle leases out of the quotas; call this in the event loop."""
        now = self._clock()
        unused = {name: quota.give_back(now, idle_s) for name, quota in tuple(self._quotas.items())}
        return {name: part for name, part in unused.items() if part}
