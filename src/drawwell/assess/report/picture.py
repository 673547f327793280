"""Figures about the samples, for the plots in the report."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from drawwell.assess.iid import most_common_value, most_common_value_of
from drawwell.assess.iid.chi_square import chi_square_tail
from drawwell.assess.samples import Samples
from drawwell.reports import Report

LAGS: Final = 128
BITMAP_SIDE: Final = (256, 128)
"""Columns and rows of the bitmap."""
WINDOWS: Final = (4, 100)
"""Minimum and maximum number of parts into which a capture is divided."""
_WINDOW_SAMPLES: Final = 10_000  # fewer samples are too noisy
_LONGEST_RUN: Final = 64  # longer runs count as runs of this length


@dataclass(frozen=True, slots=True)
class Picture(Report):
    """Figures for plots.

    `histogram`: count of each value, shape (2**bits,); `chi2`, `chi2_degrees`, `chi2_p`: its
    test for uniformity. `autocorrelation`: of the bits, lags 1 to 128. `runs`: number of runs
    of 1, 2, … equal bits. `windows`: most common value estimate of each part of the capture,
    in bits per sample; `window_samples`: length of a part; `window_ideal`: median for parts of
    the same length from an ideal source. `bitmap`: the first bits as rows of "0" and "1".
    """

    histogram: tuple[int, ...]
    chi2: float
    chi2_degrees: int
    chi2_p: float
    bits: int
    ones: int
    autocorrelation: tuple[float, ...]
    runs: tuple[int, ...]
    window_samples: int
    windows: tuple[float, ...]
    window_ideal: float
    bitmap: tuple[str, ...]


def picture_of(samples: Samples) -> Picture:
    raw, width = samples.raw, samples.bits_per_sample
    counts = np.bincount(raw, minlength=1 << width)
    expected = len(raw) / len(counts)
    chi2 = float(((counts - expected) ** 2).sum() / expected)
    string = samples.bit_string
    windows = min(WINDOWS[1], max(WINDOWS[0], len(raw) // _WINDOW_SAMPLES))
    size = len(raw) // windows
    parts = raw[: size * windows].reshape(windows, size)
    return Picture(
        histogram=tuple(counts.tolist()),
        chi2=chi2,
        chi2_degrees=len(counts) - 1,
        chi2_p=chi_square_tail(chi2, len(counts) - 1),
        bits=len(string),
        ones=int(np.count_nonzero(string)),
        autocorrelation=tuple(_autocorrelation(string)),
        runs=tuple(_runs(string)),
        window_samples=size,
        windows=tuple(most_common_value(part) for part in parts),
        window_ideal=ideal_most_common_value(size, 1 << width),
        bitmap=tuple(_bitmap(string)),
    )


def _autocorrelation(string: NDArray[np.uint8]) -> list[float]:
    """Return Pearson's coefficient by lag, from counts of packed bits."""
    n, mean = len(string), float(string.mean(dtype=np.float64))
    variance = mean * (1 - mean)
    if not variance:
        return [0.0] * LAGS
    found = []
    for lag in range(1, LAGS + 1):
        both = int(np.count_nonzero(string[:-lag] & string[lag:]))
        found.append((both / (n - lag) - mean * mean) / variance)
    return found


def _runs(string: NDArray[np.uint8]) -> list[int]:
    ends = np.flatnonzero(string[1:] != string[:-1])
    lengths = np.diff(np.concatenate(([-1], ends, [len(string) - 1])))
    counts = np.bincount(np.minimum(lengths, _LONGEST_RUN), minlength=2)[1:]
    found: list[int] = counts.tolist()
    return found


def _bitmap(string: NDArray[np.uint8]) -> list[str]:
    columns, rows = BITMAP_SIDE
    rows = min(rows, len(string) // columns)
    return [(row + 48).tobytes().decode() for row in string[: rows * columns].reshape(rows, columns)]


def ideal_most_common_value(n: int, k: int) -> float:
    """Return the median of ideal sources' most common value estimates."""
    p, count = 1 / k, math.ceil(n / k)
    while count < n and _at_most(count, n, p) ** k < 0.5:
        count += 1
    share = count / n
    return most_common_value_of(share, n)


def _at_most(count: int, n: int, p: float) -> float:
    """Return P(X <= count) for a binomial X with n trials."""
    ways = math.lgamma(n + 1)
    above = 0.0
    for x in range(count + 1, n + 1):
        term = math.exp(
            ways - math.lgamma(x + 1) - math.lgamma(n - x + 1) + x * math.log(p) + (n - x) * math.log1p(-p)
        )
        above += term
        if term < above * 1e-15:
            break
    return 1 - above
