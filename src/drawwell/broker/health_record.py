"""The health history of a broker's sources, recorded once a minute."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final

from drawwell.config.broker_side import MAX_SOURCES
from drawwell.entropy.health_history import HealthHistory, Span, label
from drawwell.reports import SourceReport
from drawwell.state.health_rows import HealthRows

POINTS: Final = 96
"""The number of parts into which a report divides 24 hours."""


class HealthRecord:
    """Records the results of the sources' health tests.

    Args:
        rows: The file to read at the start and to write.
        clock: Returns seconds since 1970.
    """

    def __init__(self, rows: HealthRows, clock: Callable[[], float]) -> None:
        self._rows = rows
        self._clock = clock
        self._history = HealthHistory(MAX_SOURCES)
        rows.load_into(self._history)

    async def note(self, reports: Iterable[SourceReport]) -> None:
        """Record the last minute and write it to the file.

        Raises:
            StateUnavailable: the file could not be written.
        """
        now = self._clock()
        noted = self._history.note(reports, now)
        rows = [(name, span, self._history.sources[name].tests, row) for name, span, row in noted]
        await asyncio.to_thread(self._rows.keep, rows, set(self._history.sources), now)

    def close(self) -> None:
        """Close the file."""
        self._rows.close()

    def enter(self, sources: Iterable[dict[str, Any]]) -> None:
        """Add the last 24 hours to each test in the reports, as key `history`."""
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
