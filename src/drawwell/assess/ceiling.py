"""The score that an ideal source reaches at a finite sample size.

Without this figure, a score of 7.28 out of 8 looks like a fault. `tools/ceilings.py` computes
the table from simulated uniform SHAKE-256 samples. Between two sizes, values are interpolated
over the logarithm of the size; beyond the table, the nearest row applies.
"""

import math
from bisect import bisect
from typing import Final

from drawwell.assess.results import Ceiling

RUNS: Final = 9
"""Number of independent simulated sources for each figure."""

TABLE: Final[dict[int, tuple[tuple[int, float, float, float], ...]]] = {
    1: (
        (10000, 0.5811, 0.5261, 0.6241),
        (20000, 0.6491, 0.6081, 0.8067),
        (50000, 0.7062, 0.6853, 0.7535),
        (100000, 0.7457, 0.6993, 0.7912),
        (200000, 0.7928, 0.7591, 0.8643),
        (500000, 0.8217, 0.7996, 0.8728),
        (1000000, 0.863, 0.8161, 0.8809),
        (2000000, 0.8601, 0.8426, 0.9047),
    ),
    2: (
        (10000, 1.2651, 1.1595, 1.4971),
        (20000, 1.4413, 1.3652, 1.5811),
        (50000, 1.4805, 1.4362, 1.6464),
        (100000, 1.6142, 1.5389, 1.7404),
        (200000, 1.6624, 1.5432, 1.7271),
        (500000, 1.6907, 1.618, 1.7863),
        (1000000, 1.7569, 1.7117, 1.8219),
        (2000000, 1.769, 1.7159, 1.8122),
    ),
    3: (
        (10000, 2.1809, 1.8524, 2.2879),
        (20000, 2.284, 2.1153, 2.4319),
        (50000, 2.4044, 2.1981, 2.5193),
        (100000, 2.3615, 2.2615, 2.5562),
        (200000, 2.5205, 2.3705, 2.6207),
        (500000, 2.6245, 2.5434, 2.7353),
        (1000000, 2.6314, 2.5915, 2.7525),
        (2000000, 2.6829, 2.6439, 2.7499),
    ),
    4: (
        (10000, 2.8353, 2.6862, 3.1263),
        (20000, 3.0282, 2.8006, 3.2892),
        (50000, 3.1782, 3.0102, 3.4212),
        (100000, 3.3058, 3.16, 3.5016),
        (200000, 3.2755, 2.831, 3.5416),
        (500000, 3.4777, 3.4212, 3.6559),
        (1000000, 3.5677, 3.4727, 3.6495),
        (2000000, 3.6254, 3.4442, 3.7057),
    ),
    5: (
        (10000, 3.5782, 3.3939, 3.9008),
        (20000, 3.7804, 3.7096, 4.0088),
        (50000, 4.0388, 3.7987, 4.3006),
        (100000, 4.1689, 4.0747, 4.288),
        (200000, 4.2879, 4.0084, 4.5382),
        (500000, 4.3441, 4.2484, 4.589),
        (1000000, 4.4379, 4.3805, 4.6384),
        (2000000, 4.4701, 4.3691, 4.5834),
    ),
    6: (
        (10000, 4.3871, 4.0951, 5.2033),
        (20000, 4.6944, 4.4347, 4.9184),
        (50000, 4.8645, 4.4356, 5.0606),
        (100000, 5.0227, 4.8392, 5.1655),
        (200000, 5.2003, 4.839, 5.2999),
        (500000, 5.2546, 4.8987, 5.5217),
        (1000000, 5.3634, 5.3062, 5.6452),
        (2000000, 5.5072, 5.2233, 5.6561),
    ),
    7: (
        (10000, 5.1555, 4.9247, 5.4586),
        (20000, 5.5659, 5.2668, 5.9272),
        (50000, 5.6674, 5.4711, 6.016),
        (100000, 5.877, 5.6429, 6.3557),
        (200000, 6.0303, 5.8153, 6.2195),
        (500000, 6.2822, 6.123, 6.3694),
        (1000000, 6.2748, 6.1032, 6.4953),
        (2000000, 6.4342, 6.3121, 6.6179),
    ),
    8: (
        (10000, 6.0724, 5.8663, 6.7837),
        (20000, 6.2018, 5.9381, 6.7279),
        (50000, 6.5912, 6.1909, 6.8459),
        (100000, 6.7276, 6.4073, 6.9822),
        (200000, 6.8137, 6.0561, 7.1229),
        (500000, 7.176, 7.1188, 7.3589),
        (1000000, 7.0962, 6.6384, 7.3364),
        (2000000, 7.2831, 6.889, 7.4817),
    ),
}
"""Rows per bit width: size; median, minimum and maximum of min-entropy per sample."""


def ceiling_at(samples: int, bits_per_sample: int) -> Ceiling | None:
    """Return the ceiling for 1- to 8-bit samples; None if not simulated."""
    rows = TABLE.get(bits_per_sample)
    if not rows:
        return None
    median, low, high = _at(samples, rows)
    lengths = f"{rows[0][0]:,} to {rows[-1][0]:,}"
    return Ceiling(
        median,
        low,
        high,
        f"Median, minimum and maximum of {RUNS} ideal sources (SHAKE-256) of {bits_per_sample} bits per sample,"
        f" simulated at sizes of {lengths} samples and interpolated over the logarithm of the size.",
    )


def _at(samples: int, rows: tuple[tuple[int, float, float, float], ...]) -> list[float]:
    place = min(max(bisect([row[0] for row in rows], samples), 1), len(rows) - 1)
    (short, *under), (long, *over) = rows[place - 1], rows[place]
    share = min(1.0, max(0.0, math.log(samples / short) / math.log(long / short)))
    return [a + share * (b - a) for a, b in zip(under, over, strict=True)]
