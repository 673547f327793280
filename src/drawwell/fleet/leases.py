"""Leases of quotas, many in one statement; a lease is used once durable."""

import math
from collections.abc import Mapping
from typing import Any, Final

from drawwell.entropy.leased_quota import LeaseAsk, LeaseGrant, Unused
from drawwell.errors import StateUnavailable
from drawwell.fleet.connection import Address, StoreConnection
from drawwell.fleet.store import limits

_LEASE: Final = (
    "SELECT * FROM drawwell.lease("
    "%s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[])"
)
_GIVE_BACK: Final = "SELECT drawwell.give_back(%s::text[], %s::bigint[], %s::bigint[])"


class Leases:
    """Leases for one broker, from any thread.

    Args:
        address: The store.
        broker: The name of this broker.
    """

    def __init__(self, address: Address, broker: str) -> None:
        self._connection = StoreConnection(address, broker)

    def lease(self, wanted: Mapping[str, LeaseAsk]) -> Mapping[str, LeaseGrant]:
        """Request leases for many consumers, and return the grants.

        Raises:
            StateUnavailable: there was no valid answer; a grant may be lost.
        """
        asks = wanted.values()
        rates, totals = [limits(ask.rate) for ask in asks], [limits(ask.total) for ask in asks]
        columns = ([pair[part] for pair in pairs] for pairs in (rates, totals) for part in (0, 1))
        rows = self._connection.run(_LEASE, (list(wanted), [ask.want_bytes for ask in asks], *columns))
        grants = {name: LeaseGrant(*grant) for name, *grant in rows if _is_whole(*grant)}
        if not grants.keys() >= wanted.keys():
            raise StateUnavailable(
                "the fleet's store returned an invalid answer",
                hint="Its functions may have been changed. Compare them with those of a new fleet.",
            )
        return grants

    def give_back(self, unused: Mapping[str, Unused]) -> None:
        """Return unused bytes to the totals; if this fails, they are lost.

        Raises:
            StateUnavailable: there was no valid answer.
        """
        if not unused:
            return
        parts = unused.values()
        periods, amounts = [part.period for part in parts], [part.unused_bytes for part in parts]
        self._connection.run(_GIVE_BACK, (list(unused), periods, amounts))

    def drop_ended(self) -> None:
        """Drop rows that no longer have any effect; same errors as `lease`."""
        self._connection.call("drop_ended_leases")

    def close(self) -> None:
        """Drop the connection; a running call then fails."""
        self._connection.close()


def _is_whole(granted: Any, _remaining: Any, _period: Any, ends_s: Any, wait_s: Any, reason: Any) -> bool:
    """Return whether an answer has a non-negative grant and valid times."""
    times = (ends_s or 0.0, math.nan if wait_s is None else wait_s)
    return granted is not None and granted >= 0 and reason is not None and all(map(math.isfinite, times))
