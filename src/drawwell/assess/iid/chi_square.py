"""Chi-square tests of the IID track (SP 800-90B 5.2.1 to 5.2.4).

NIST's tool computes a proportion by adding 1/n once per sample, and sorts expected counts that
use these sums. The sums' last bits decide ties, so this module computes the same sums.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from drawwell.reports import Report

Samples = NDArray[np.uint8]

REJECT_BELOW: Final = 0.001  # SP 800-90B 5.2: probability of a type I error
LEAST_EXPECTED: Final = 5.0  # SP 800-90B 5.2.1: expected count of a bin
SUBSETS: Final = 10  # SP 800-90B 5.2.2: parts compared with the whole
_LONGEST_TUPLE: Final = 11  # SP 800-90B 5.2.3: bits in a tuple


@dataclass(frozen=True, slots=True)
class ChiSquare(Report):
    """A chi-square test: statistic, degrees of freedom, p-value."""

    statistic: float
    degrees: int
    p_value: float

    @property
    def passed(self) -> bool:
        """Whether IID data can explain the statistic."""
        return self.p_value >= REJECT_BELOW


def independence(samples: Samples, k: int) -> ChiSquare:
    """Test whether pairs (for bits: tuples) occur as often as expected.

    Args:
        samples: Shape (n,), values below `k`.
        k: Size of the alphabet, at least 2.
    """
    return _independence_of_bits(samples) if k == 2 else _independence_of_symbols(samples, k)


def goodness_of_fit(samples: Samples, k: int) -> ChiSquare:
    """Test whether ten parts have the same distribution as the whole."""
    return _fit_of_bits(samples) if k == 2 else _fit_of_symbols(samples, k)


def _proportions(samples: Samples, k: int) -> NDArray[np.float64]:
    counts = np.bincount(samples, minlength=k)
    steps = np.cumsum(np.full(int(counts.max()), 1.0 / len(samples)))
    sums: NDArray[np.float64] = np.where(counts > 0, steps[counts - 1], 0.0)
    return sums


def _bins(expected: NDArray[np.float64]) -> NDArray[np.int64]:
    """Put cells into bins, by rising expectation, until a bin expects 5.

    A last bin that expects less is merged with the next or previous one. Cells that tie keep
    their order.
    """
    order = np.argsort(expected, kind="stable")
    number = np.empty(len(expected), dtype=np.int64)
    at, held = 0, 0.0
    values = expected[order]
    alone = int(np.searchsorted(values, LEAST_EXPECTED))  # from here on, each cell is a bin of its own
    for rank in range(alone):
        held += values[rank]
        number[order[rank]] = at
        if held >= LEAST_EXPECTED:
            at, held = at + 1, 0.0
    if held > 0 and alone < len(values):  # the open bin also takes the next cell
        number[order[alone]] = at
        alone, at = alone + 1, at + 1
    elif held > 0:
        number[number == at] = max(0, at - 1)
    number[order[alone:]] = at + np.arange(len(values) - alone)
    return number


def _binned(
    observed: NDArray[np.int64], expected: NDArray[np.float64], bins: NDArray[np.int64]
) -> tuple[float, int]:
    """Return the sum of (o - e)**2 / e over the bins, and the number of bins."""
    n = int(bins.max()) + 1
    o = np.bincount(bins, weights=observed, minlength=n)
    e = np.bincount(bins, weights=expected, minlength=n)
    return float(((o - e) ** 2 / e).sum()), n


def _independence_of_symbols(samples: Samples, k: int) -> ChiSquare:
    p = _proportions(samples, k)
    pairs = len(samples) // 2
    codes = samples[: 2 * pairs : 2].astype(np.int64) * k + samples[1 : 2 * pairs : 2]
    observed = np.bincount(codes, minlength=k * k)
    expected = (p[:, None] * p[None, :]).ravel() * pairs
    statistic, n = _binned(observed, expected, _bins(expected))
    return _result(statistic, n - k)


def _fit_of_symbols(samples: Samples, k: int) -> ChiSquare:
    size = len(samples) // SUBSETS
    expected = _proportions(samples, k) * size
    bins = _bins(expected)
    statistic, n = 0.0, 0
    for part in range(SUBSETS):
        observed = np.bincount(samples[part * size : (part + 1) * size], minlength=k)
        more, n = _binned(observed, expected, bins)
        statistic += more
    return _result(statistic, (SUBSETS - 1) * (n - 1))


def _independence_of_bits(samples: Samples) -> ChiSquare:
    p1 = float(samples.mean(dtype=np.float64))
    width = next(
        (m for m in range(_LONGEST_TUPLE, 1, -1)
         if min(p1, 1 - p1) ** m * (len(samples) // m) >= LEAST_EXPECTED), 0,
    )  # fmt: skip
    if not width:
        return ChiSquare(math.inf, 0, 0.0)
    blocks = len(samples) // width
    weights = 1 << np.arange(width - 1, -1, -1)
    codes = samples[: blocks * width].reshape(blocks, width).astype(np.int64) @ weights
    observed = np.bincount(codes, minlength=1 << width)
    ones = np.array([code.bit_count() for code in range(1 << width)])
    expected = p1**ones * (1 - p1) ** (width - ones) * blocks
    return _result(float(((observed - expected) ** 2 / expected).sum()), (1 << width) - 2)


def _fit_of_bits(samples: Samples) -> ChiSquare:
    p1 = float(samples.mean(dtype=np.float64))
    size = len(samples) // SUBSETS
    ones = samples[: SUBSETS * size].reshape(SUBSETS, size).sum(axis=1, dtype=np.int64)
    e1, e0 = p1 * size, (1 - p1) * size
    statistic = float(((ones - e1) ** 2 / e1 + (size - ones - e0) ** 2 / e0).sum())
    return _result(statistic, SUBSETS - 1)


def _result(statistic: float, degrees: int) -> ChiSquare:
    return ChiSquare(statistic, degrees, chi_square_tail(statistic, degrees) if degrees > 0 else 0.0)


def chi_square_tail(statistic: float, degrees: int) -> float:
    """Return P(X > statistic) for a chi-square variable.

    It is the regularised incomplete gamma function Q(degrees / 2, statistic / 2): a series
    below the mean, and a continued fraction (modified Lentz) above the mean.
    """
    a, x = degrees / 2, statistic / 2
    if x <= 0:
        return 1.0
    if math.isinf(x):
        return 0.0
    log_front = a * math.log(x) - x - math.lgamma(a)
    if x < a + 1:
        term = total = 1 / a
        step = a
        while term > total * 1e-17:
            step += 1
            term *= x / step
            total += term
        return max(0.0, 1 - total * math.exp(log_front))
    return math.exp(log_front) * _continued_fraction(a, x)


def _continued_fraction(a: float, x: float) -> float:
    b = x + 1 - a
    c, d = 1e300, 1 / b
    h, i = d, 0
    while True:
        i += 1
        an = -i * (i - a)
        b += 2
        d = 1 / (an * d + b)
        c = b + an / c
        h *= d * c
        if abs(d * c - 1) < 1e-16:
            return h
