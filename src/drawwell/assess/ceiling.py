"""What an ideal source would score at the same length: people read 7.28 of 8 as a fault, and it is none.

The table is simulated: `tools/ceilings.py` assesses uniform samples from SHAKE-256 and prints it. Between two
lengths the figures are interpolated over the logarithm of the length; beyond the ends the nearest one stands.
"""

import math
from bisect import bisect
from typing import Final

from drawwell.assess.results import Ceiling

RUNS: Final = 9
"""Independent ideal sources behind each figure."""

TABLE: Final[dict[int, tuple[tuple[int, float, float, float], ...]]] = {}
"""By bits per sample: length, then median, least and greatest assessed min-entropy in bits per sample."""


def ceiling_at(samples: int, bits_per_sample: int) -> Ceiling | None:
    """The ceiling for `samples` of `bits_per_sample` (1 to 8); None where nothing was simulated."""
    rows = TABLE.get(bits_per_sample)
    if not rows:
        return None
    median, low, high = _at(samples, rows)
    lengths = f"{rows[0][0]:,} to {rows[-1][0]:,}"
    return Ceiling(
        median,
        low,
        high,
        f"Median, least and greatest of {RUNS} ideal sources (SHAKE-256) of {bits_per_sample} bits per sample,"
        f" simulated at lengths from {lengths} samples and interpolated over the logarithm of the length.",
    )


def _at(samples: int, rows: tuple[tuple[int, float, float, float], ...]) -> list[float]:
    place = min(max(bisect([row[0] for row in rows], samples), 1), len(rows) - 1)
    (short, *under), (long, *over) = rows[place - 1], rows[place]
    share = min(1.0, max(0.0, math.log(samples / short) / math.log(long / short)))
    return [a + share * (b - a) for a, b in zip(under, over, strict=True)]
