"""The list of brokers that a broker sends to its consumers."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from drawwell.authorisation import Principal
from drawwell.verbs import Handler
from drawwell.wire.brokers import MOST_BROKERS, KnownBroker, KnownBrokers


class HasRows(Protocol):
    """Provides the rows of a fleet's brokers, as last read from the store."""

    def rows(self) -> Iterable[Mapping[str, Any]]:
        """Return rows with `name`, `addresses` and `receipt_key`; thread-safe."""


class BrokerList:
    """This broker, and all other brokers of its fleet.

    Args:
        own: This broker.
        receipt_key: Returns this broker's public receipt keys, in PEM.
        fleet: The fleet's name, "" without a fleet.
        others: Provides a row for each broker of the fleet; None without a fleet.
    """

    def __init__(
        self,
        own: KnownBroker,
        receipt_key: Callable[[], str],
        fleet: str = "",
        others: HasRows | None = None,
    ) -> None:
        self._own, self._receipt_key, self._fleet, self._others = own, receipt_key, fleet, others

    def handlers(self) -> dict[str, Handler]:
        """Return the handler of the verb ``brokers``."""
        return {"brokers": self._answer}

    def known(self) -> KnownBrokers:
        """Return the brokers, as last read from the store; thread-safe."""
        return KnownBrokers.read(self.document())

    def document(self) -> dict[str, Any]:
        """Return the answer to the verb; thread-safe."""
        rows = self._others.rows() if self._others else ()
        others = [row for row in rows if row["name"] != self._own.name and _is_whole(row)][: MOST_BROKERS - 1]
        own = {"name": self._own.name, "addresses": self._own.addresses, "receipt_key": self._receipt_key()}
        listed = [
            {
                "name": row["name"],
                "addresses": list(row["addresses"]),
                "receipt_key": row.get("receipt_key", ""),
            }
            for row in (own, *others)
        ]
        return {"fleet": self._fleet, "brokers": sorted(listed, key=lambda each: str(each["name"]))}

    async def _answer(self, _principal: Principal) -> dict[str, Any]:
        return await asyncio.to_thread(self.document)


def _is_whole(row: Mapping[str, Any]) -> bool:
    """Return whether a row, written by another broker, is valid."""
    try:
        return bool(KnownBrokers.read({"fleet": "", "brokers": [row]}).brokers[0].addresses)
    except ValueError:
        return False
