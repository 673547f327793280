"""The margin of each health test over time, by minute and by day.

A test's nearness is its largest count divided by its lower cutoff; 1 is a failure. Rows are
kept for the minutes of 24 hours and the days of a year. A minute without samples has no row.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from drawwell.reports import HealthTestReport, SourceReport


class Span(IntEnum):
    """Length of a row in seconds."""

    MINUTE = 60
    DAY = 86_400


LENGTH: Final = {Span.MINUTE: 24 * 60, Span.DAY: 365}
"""The number of rows to keep."""


@dataclass(frozen=True, slots=True)
class Row:
    """One minute or day of a source.

    Args:
        at: The number of the minute or day since 1970.
        min_entropy: Lowest estimate in bits per sample, or 0 for none (SP 800-90B 6.3.1).
        nearness: The highest nearness of each test, in the order of `SourceHistory.tests`.
    """

    at: int
    min_entropy: float
    nearness: tuple[float, ...]

    def joined(self, other: "Row") -> "Row":
        """Return the worse values of `self` and `other`, at the time of `self`."""
        estimates = [each for each in (self.min_entropy, other.min_entropy) if each]
        nearness = tuple(map(max, self.nearness, other.nearness))
        return Row(self.at, min(estimates, default=0.0), nearness)


class SourceHistory:
    """The rows of one source.

    Args:
        tests: The names of the source's tests.
    """

    def __init__(self, tests: tuple[str, ...]) -> None:
        self.tests = tests
        self._raw_bytes = 0
        self.rows: dict[Span, deque[Row]] = {span: deque(maxlen=LENGTH[span]) for span in Span}

    def has_new(self, raw_bytes: int) -> bool:
        """Return whether `raw_bytes` has changed since the last call."""
        before, self._raw_bytes = self._raw_bytes, raw_bytes
        return raw_bytes != before

    def add(self, span: Span, row: Row) -> Row:
        """Add a row, merged with a row for the same time; drop later rows."""
        rows = self.rows[span]
        while rows and rows[-1].at > row.at:
            rows.pop()
        if rows and rows[-1].at == row.at:
            row = rows.pop().joined(row)
        rows.append(row)
        return row

    def since(self, span: Span, now: float) -> list[Row]:
        """Return the rows that are not too old at `now` (seconds since 1970)."""
        oldest = int(now // span) - LENGTH[span]
        return [row for row in self.rows[span] if row.at > oldest]


class HealthHistory:
    """The histories of a broker's sources.

    Args:
        most_sources: The maximum number of sources; another source replaces the oldest.
    """

    def __init__(self, most_sources: int) -> None:
        self.sources: dict[str, SourceHistory] = {}
        self._most = most_sources

    def note(self, reports: Iterable[SourceReport], now: float) -> list[tuple[str, Span, Row]]:
        """Add the last minute for sources that were read; return changed rows.

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
        """Return a source's history; start a new one if its tests changed."""
        found = self.sources.pop(name, None)
        if found is None or found.tests != tests:
            found = SourceHistory(tests)
        self.sources[name] = found
        if len(self.sources) > self._most:
            del self.sources[next(iter(self.sources))]
        return found

    def day(self, name: str, now: float, points: int) -> dict[str, list[float | None]]:
        """Return the last 24 hours of each test in equal parts, oldest first.

        Each part is the test's highest nearness, or None for a part without rows.
        """
        if (history := self.sources.get(name)) is None:
            return {}
        parts = parts_of(history.since(Span.MINUTE, now), Span.MINUTE, now, points)
        return {
            test: [part.nearness[index] if part else None for part in parts]
            for index, test in enumerate(history.tests)
        }


def parts_of(rows: Iterable[Row], span: Span, now: float, points: int) -> list[Row | None]:
    """Group the rows into `points` equal parts, oldest first; merge each part."""
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
    """Return a label for a test, unique within the test's source."""
    return f"{name} ({unit})"


def _nearness(test: HealthTestReport) -> float:
    return round(min(1.0, test.recent_count / max(1, test.cutoff_intermittent)), 3)
