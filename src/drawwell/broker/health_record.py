"""The health history of a broker's sources, noted once a minute."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final

from drawwell.config.broker_side import MAX_SOURCES
from drawwell.entropy.health_history import HealthHistory, Span, label
from drawwell.reports import SourceReport
from drawwell.state.health_rows import HealthRows

POINTS: Final = 96
"""How many parts of 24 hours a report has."""


class HealthRecord:
    """Notes how the sources' health tests went.

    Args:
        rows: The file.
        clock: Seconds since 1970.
    """

    def __init__(self, rows: HealthRows, clock: Callable[[], float]) -> None:
        self._rows = rows
        self._clock = clock
        self._history = HealthHistory(MAX_SOURCES)
        rows.load_into(self._history)

    async def note(self, reports: Iterable[SourceReport]) -> None:
        """Note the last minute, and write it.

        Raises:
            StateUnavailable: it could not be written.
        """
        now = self._clock()
        noted = self._history.note(reports, now)
        rows = [(name, span, self._history.sources[name].tests, row) for name, span, row in noted]
        await asyncio.to_thread(self._rows.keep, rows, set(self._history.sources), now)

    def close(self) -> None:
        """Close the file."""
        self._rows.close()

    def enter(self, sources: Iterable[dict[str, Any]]) -> None:
        """Add to each test of these reports its last 24 hours, as `history`."""
        for source in sources:
            day = self._history.day(source["identity"]["name"], self._clock(), POINTS)
            for test in source["tests"]:
                test["history"] = day.get(label(test["name"], test["unit"]), [])

    def of(self, name: str) -> dict[str, Any]:
        """Return all rows of a source."""
        now, history = self._clock(), self._history.sources.get(name)
        return {
            "source": name,
            "now": now,
            "tests": history.tests if history else (),
            **{
                key: [
                    {"at": row.at * span, "min_entropy": row.min_entropy, "nearness": row.nearness}
                    for row in (history.since(span, now) if history else ())
                ]
                for key, span in (("minutes", Span.MINUTE), ("days", Span.DAY))
            },
        }
