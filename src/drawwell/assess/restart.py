"""The restart tests (SP 800-90B 3.1.4): are restarts independent?

Each of the matrix's 1,000 rows has the first 1,000 samples after a restart. The sanity check
limits the count of any value in a row or column. The estimates over the rows and over the
columns must then be at least half of the initial estimate.

NIST's tool simulates the cutoff of the sanity check, so its cutoff varies by one between runs.
Here the cutoff is computed from binomial tails.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from drawwell.errors import BadData
from drawwell.reports import Report

Samples = NDArray[np.uint8]

SIDE: Final = 1000  # SP 800-90B 3.1.4.1: restarts, and samples of each
ALPHA: Final = 1 - 0.99 ** (1 / (2 * SIDE))  # SP 800-90B 3.1.4.3, step 1: 0.01 over all rows and columns


@dataclass(frozen=True, slots=True)
class RestartResult(Report):
    """Result of the restart tests; min-entropy is in bits per sample.

    `most` is the largest count of one value in a row or column; it must not exceed `cutoff`.
    If the sanity check fails, no estimates are made: they are None. `min_entropy` is the
    minimum of the estimates (initial, rows, columns), or 0 if a test failed.
    """

    h_initial: float
    cutoff: int
    most: int
    most_in: str
    sane: bool
    h_rows: float | None
    h_columns: float | None
    passed: bool
    min_entropy: float


def as_matrix(samples: Samples) -> Samples:
    """Convert samples, ordered by restart, to a (1000, 1000) matrix.

    Raises:
        BadData: there are not exactly 1,000,000 samples.
    """
    if len(samples) != SIDE * SIDE:
        raise BadData(
            f"a restart matrix needs {SIDE * SIDE} samples, 1000 from each of 1000 restarts, not {len(samples)}",
            hint="Create it with 'drawwell evidence', or join 1000 files of 1000 samples each.",
        )
    return samples.reshape(SIDE, SIDE)


def assess_restart(
    matrix: Samples, *, h_initial: float, estimate: Callable[[Samples], float]
) -> RestartResult:
    """Run the restart tests.

    Args:
        matrix: Shape (1000, 1000), one row per restart.
        h_initial: The initial estimate in bits per sample, 0 < h_initial <= 8.
        estimate: Returns the min-entropy of a sample vector by the method of `h_initial`: the
            literal column of the non-IID estimators, or the most common value.

    Raises:
        ValueError: `h_initial` is out of range.
    """
    cutoff = restart_cutoff(h_initial)
    in_rows, in_columns = _largest_count(matrix), _largest_count(matrix.T)
    most = max(in_rows, in_columns)
    h_rows = h_columns = None
    if most <= cutoff:
        h_rows = estimate(np.ascontiguousarray(matrix).reshape(-1))
        h_columns = estimate(np.ascontiguousarray(matrix.T).reshape(-1))
    passed = h_rows is not None and h_columns is not None and min(h_rows, h_columns) >= h_initial / 2
    return RestartResult(
        h_initial=h_initial,
        cutoff=cutoff,
        most=most,
        most_in="a row" if in_rows >= in_columns else "a column",
        sane=most <= cutoff,
        h_rows=h_rows,
        h_columns=h_columns,
        passed=passed,
        min_entropy=min(h_initial, h_rows or 0.0, h_columns or 0.0) if passed else 0.0,
    )


def restart_cutoff(h_initial: float) -> int:
    """Return how many times a value may occur in 1,000 samples, at alpha.

    For a given min-entropy H, the worst source has as many values of probability p = 2**-H as
    possible, and one value for the rest. The cutoff is the smallest c for which the sum of P(X
    > c) over these values is at most alpha. The sum is accurate, because the probability that
    two values both exceed c is only alpha squared.

    Raises:
        ValueError: `h_initial` is at most 0, or above 8.
    """
    if not 0 < h_initial <= 8:
        raise ValueError(f"initial estimate {h_initial:g}: must be above 0 and at most 8 bits per sample")
    p = 2.0**-h_initial
    values = math.floor(1 / p)
    return next(
        c for c in range(SIDE + 1) if values * _tail(c, p) + _tail(c, max(0.0, 1 - values * p)) <= ALPHA
    )


def _tail(count: int, p: float) -> float:
    """Return P(X > count) for a binomial X with 1,000 trials."""
    if p <= 0 or count >= SIDE:
        return 0.0
    if p >= 1:
        return 1.0
    ways = math.lgamma(SIDE + 1)
    return math.fsum(
        math.exp(
            ways
            - math.lgamma(k + 1)
            - math.lgamma(SIDE - k + 1)
            + k * math.log(p)
            + (SIDE - k) * math.log1p(-p)
        )
        for k in range(count + 1, SIDE + 1)
    )


def _largest_count(rows: Samples) -> int:
    """Return the largest count of one value in any row."""
    return max(int(np.bincount(row).max()) for row in rows)
