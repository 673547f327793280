"""Counts of all draws since the broker's start, for monitoring."""

from bisect import bisect_left
from collections import Counter

from drawwell.entropy.blocks import DrawClass
from drawwell.reports import WAIT_BOUNDS_S, DrawsReport


class DrawCounts:
    """Counts of grants and refusals by class, and waiting times."""

    def __init__(self) -> None:
        self.granted = dict.fromkeys(DrawClass, 0)
        self.refused: Counter[tuple[DrawClass, str]] = Counter()
        self._waits = [0] * (len(WAIT_BOUNDS_S) + 1)
        self._waited_s = 0.0

    def waited(self, seconds: float) -> None:
        """Count a granted draw that had to wait."""
        self._waits[bisect_left(WAIT_BOUNDS_S, seconds)] += 1
        self._waited_s += seconds

    def report(self, starved_s: float, receipts_lost: int) -> DrawsReport:
        """Return the counts; the first wait interval includes immediate draws."""
        waits = list(self._waits)
        waits[0] += sum(self.granted.values()) - sum(waits)
        granted = {str(draw_class): count for draw_class, count in self.granted.items()}
        refused: Counter[str] = Counter()
        by_class: dict[str, dict[str, int]] = {str(draw_class): {} for draw_class in DrawClass}
        for (draw_class, error), count in self.refused.items():
            refused[error] += count
            by_class[draw_class][error] = count
        return DrawsReport(
            granted, dict(refused), tuple(waits), self._waited_s, starved_s, by_class, receipts_lost
        )
