"""Control verbs about the broker itself and its sources."""

from collections.abc import Awaitable, Callable, Collection
from typing import Any, Final

from drawwell import __version__
from drawwell.authorisation import Principal, Role
from drawwell.broker.broker import LocalBroker
from drawwell.broker.devices import device_ids
from drawwell.broker.health_record import HealthRecord
from drawwell.errors import PermissionRefused, SourceUnavailable
from drawwell.observe.series import MOST_CONSUMERS
from drawwell.ports import Source
from drawwell.reports import BrokerReport, as_json
from drawwell.verbs import Handler

BUSIEST: Final = 20
"""The number of consumers that a status lists."""


class OwnVerbs:
    """Answers control verbs about the broker itself and its sources.

    Args:
        broker: The broker.
        report: Returns the report of the broker and its process, with at most the given number
            of consumers.
        health: The sources' history.
        observers: Returns the consumers that may observe everything.
    """

    def __init__(
        self,
        broker: LocalBroker,
        report: Callable[[int], Awaitable[BrokerReport]],
        health: HealthRecord,
        observers: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self._broker = broker
        self._report = report
        self._health = health
        self._observers = observers

    def handlers(self) -> dict[str, Handler]:
        """Return the handlers."""
        return {
            "status": self._status,
            "observe": self._observe,
            "source.command": self._source_command,
            "source.history": self._source_history,
        }

    async def _status(self, principal: Principal) -> dict[str, Any]:
        if principal.role is Role.CONSUMER:
            return await self._own_status(principal.name)
        return as_json(await self._report(BUSIEST))

    async def _observe(self, principal: Principal) -> dict[str, Any]:
        """Return the whole report, and whether the caller may see names."""
        names = principal.role is Role.OWNER or principal.name in self._observers()
        if principal.name and not names:
            raise PermissionRefused(
                f"{principal.name} may not observe this broker",
                hint="Ask the operator to add this name to observers in [health].",
            )
        report = as_json(await self._report(MOST_CONSUMERS if names else 0))
        self._health.enter(report["sources"])
        return {"names": names, "report": report}

    async def _own_status(self, name: str) -> dict[str, Any]:
        """Return one consumer's report, and whether the broker is ready."""
        own = await self._broker.consumer_report(name)
        why = self._broker.not_ready_because(name)
        return {
            "name": self._broker.rules.name,
            "version": __version__,
            "ready": not why,
            "not_ready_because": why,
            "evidence": self._broker.evidence,
            "devices": device_ids(self._broker.sources.values()),
            "consumers": [as_json(own)] if own else [],
        }

    async def _source_command(
        self, _principal: Principal, source: str | None, verb: str, args: dict[str, Any] | None
    ) -> dict[str, Any]:
        return await self._find(source).command(verb, args or {})

    async def _source_history(self, _principal: Principal, source: str | None) -> dict[str, Any]:
        identity = self._find(source).report().identity
        return {"simulated": identity.simulated, **self._health.of(identity.name)}

    def _find(self, wanted: str | None) -> Source:
        """Return the named source, or the only source if `wanted` is None."""
        sources = self._broker.sources
        if wanted is None and len(sources) == 1:
            return next(iter(sources.values()))
        if wanted in sources:
            return sources[wanted]
        names = ", ".join(sources) or "none"
        raise SourceUnavailable(
            f"unknown source {wanted!r}" if wanted else "the source's name is missing",
            hint=f"The sources are: {names}.",
        )
