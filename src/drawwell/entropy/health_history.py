"""How near each health test came to its cutoff, by minute and by day.

A test's nearness is its largest count over its lower cutoff, from 0 to 1, where it fires. Rows
are kept for the minutes of 24 hours and the days of a year. A minute without samples has none.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from drawwell.reports import HealthTestReport, SourceReport


class Span(IntEnum):
    """What a row is of, in seconds."""

    MINUTE = 60
    DAY = 86_400


LENGTH: Final = {Span.MINUTE: 24 * 60, Span.DAY: 365}
"""How many rows are kept."""


@dataclass(frozen=True, slots=True)
class Row:
    """One minute or day of a source.

    Args:
        at: Which one, counted from 1970.
        min_entropy: Lowest estimate in bits a sample, 0 for none (SP 800-90B 6.3.1).
        nearness: The highest of each test, in the order of `SourceHistory.tests`.
    """

    at: int
    min_entropy: float
    nearness: tuple[float, ...]

    def joined(self, other: "Row") -> "Row":
        """Return the worse of both, under the name of this one."""
        estimates = [each for each in (self.min_entropy, other.min_entropy) if each]
        nearness = tuple(map(max, self.nearness, other.nearness))
        return Row(self.at, min(estimates, default=0.0), nearness)


class SourceHistory:
    """The rows of one source.

    Args:
        tests: Names of its tests.
    """

    def __init__(self, tests: tuple[str, ...]) -> None:
        self.tests = tests
        self._raw_bytes = 0
        self.rows: dict[Span, deque[Row]] = {span: deque(maxlen=LENGTH[span]) for span in Span}

    def has_new(self, raw_bytes: int) -> bool:
        """Return whether that is another count than at the last call."""
        before, self._raw_bytes = self._raw_bytes, raw_bytes
        return raw_bytes != before

    def add(self, span: Span, row: Row) -> Row:
        """Join a row to that of the same time; drop those of a later one."""
        rows = self.rows[span]
        while rows and rows[-1].at > row.at:
            rows.pop()
        if rows and rows[-1].at == row.at:
            row = rows.pop().joined(row)
        rows.append(row)
        return row

    def since(self, span: Span, now: float) -> list[Row]:
        """Return the rows that are not too old at `now`, in seconds since 1970."""
        oldest = int(now // span) - LENGTH[span]
        return [row for row in self.rows[span] if row.at > oldest]


class HealthHistory:
    """The histories of a broker's sources.

    Args:
        most_sources: How many are kept. One more and the first that came is forgotten.
    """

    def __init__(self, most_sources: int) -> None:
        self.sources: dict[str, SourceHistory] = {}
        self._most = most_sources

    def note(self, reports: Iterable[SourceReport], now: float) -> list[tuple[str, Span, Row]]:
        """Add the last minute of sources that were read; return the rows.

        `now` is in seconds since 1970.
        """
        changed = []
        for report in reports:
            if not report.tests or not report.raw_bytes:
                continue
            name = report.identity.name
            history = self.of(name, tuple(label(test.name, test.unit) for test in report.tests))
            if not history.has_new(report.raw_bytes):
                continue
            nearness = tuple(map(_nearness, report.tests))
            for span in Span:
                row = Row(int(now // span), round(report.drift.min_entropy, 3), nearness)
                changed.append((name, span, history.add(span, row)))
        return changed

    def of(self, name: str, tests: tuple[str, ...]) -> SourceHistory:
        """Return a source's history; one with other tests begins again."""
        found = self.sources.pop(name, None)
        if found is None or found.tests != tests:
            found = SourceHistory(tests)
        self.sources[name] = found
        if len(self.sources) > self._most:
            del self.sources[next(iter(self.sources))]
        return found

    def day(self, name: str, now: float, points: int) -> dict[str, list[float | None]]:
        """Return each test's last 24 hours in equal parts, the oldest first.

        The list of a test has its highest nearness in each part, None for a part without rows.
        """
        if (history := self.sources.get(name)) is None:
            return {}
        parts = parts_of(history.since(Span.MINUTE, now), Span.MINUTE, now, points)
        return {
            test: [part.nearness[index] if part else None for part in parts]
            for index, test in enumerate(history.tests)
        }


def parts_of(rows: Iterable[Row], span: Span, now: float, points: int) -> list[Row | None]:
    """Join the rows of each of `points` equal parts, the oldest first."""
    parts: list[Row | None] = [None] * points
    width = -(-LENGTH[span] // points)
    newest = int(now // span)
    for row in rows:
        at = points - 1 - (newest - row.at) // width
        if 0 <= at < points:
            before = parts[at]
            parts[at] = before.joined(row) if before else row
    return parts


def label(name: str, unit: str) -> str:
    """Return a name that no other test of its source has."""
    return f"{name} ({unit})"


def _nearness(test: HealthTestReport) -> float:
    return round(min(1.0, test.recent_count / max(1, test.cutoff_intermittent)), 3)
