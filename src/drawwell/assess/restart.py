"""The restart tests (SP 800-90B 3.1.4): does a source start afresh, or the same way every time?

The matrix has 1,000 rows, one for each restart, of the 1,000 samples that came first. Rows and columns must look
like the source itself: no value may come too often in any of them (the sanity check), and the matrix read by rows
and by columns must be worth at least half of the initial estimate.

NIST's tool finds the sanity cutoff by a simulation that differs by one from run to run. Here it is computed from
binomial tails.
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
    """What the restart tests say; min-entropy in bits a sample.

    `most` is the largest count of one value in a row or column, which `cutoff` must not be exceeded by. The
    estimates are None when the sanity check failed, as nothing is estimated then. `min_entropy` is what the source
    may be taken for: the least of the initial estimate, the rows and the columns, or 0 when the tests failed.
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
    """Shape a file of samples, one restart after the other, to the (1000, 1000) matrix.

    Raises:
        BadData: it is not exactly 1,000,000 samples.
    """
    if len(samples) != SIDE * SIDE:
        raise BadData(
            f"a restart matrix has {SIDE * SIDE} samples, 1000 of each of 1000 restarts; this has {len(samples)}",
            hint="Gather it with 'drawwell evidence', or join 1000 files of 1000 samples each.",
        )
    return samples.reshape(SIDE, SIDE)


def assess_restart(
    matrix: Samples, *, h_initial: float, estimate: Callable[[Samples], float]
) -> RestartResult:
    """Run the restart tests.

    Args:
        matrix: Shape (1000, 1000), a row for each restart.
        h_initial: The initial estimate in bits a sample, above 0 and at most 8.
        estimate: Gives the min-entropy of a vector of samples on the track that gave `h_initial`: the literal
            column of the non-IID estimators, or the most common value.

    Raises:
        ValueError: `h_initial` out of range.
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
    """Return the largest count of one value among 1,000 samples that chance explains, at alpha.

    The source of min-entropy H that makes it most likely has as many values of chance p = 2**-H as there is room
    for and one of what is left. The cutoff is the smallest c with the sum of P(X > c) over its values at most
    alpha: the chances add up, as two values cannot both be that frequent but with alpha squared.

    Raises:
        ValueError: not above 0 and at most 8.
    """
    if not 0 < h_initial <= 8:
        raise ValueError(f"an initial estimate of {h_initial:g} bits a sample is not above 0 and at most 8")
    p = 2.0**-h_initial
    values = math.floor(1 / p)
    return next(
        c for c in range(SIDE + 1) if values * _tail(c, p) + _tail(c, max(0.0, 1 - values * p)) <= ALPHA
    )


def _tail(count: int, p: float) -> float:
    """Return P(X > count) for X binomial of 1,000 trials."""
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
