"""The restart tests: exact cutoff, and detection of repeats."""

import math
from fractions import Fraction

import numpy as np
import pytest

from drawwell.assess.restart import ALPHA, SIDE, as_matrix, assess_restart, restart_cutoff
from drawwell.errors import BadData

GENERATOR = np.random.Generator(np.random.PCG64(11))


def exact_tail(count, p):
    return sum(
        math.comb(SIDE, k) * p**k * (1 - p) ** (SIDE - k)
        for k in range(count + 1, min(SIDE, count + 120) + 1)
    )


@pytest.mark.parametrize("bits", [1, 2, 3, 8])
def test_cutoff_is_the_smallest_that_keeps_alpha(bits):
    """Exact fractions show: the tail is at most alpha, and above it one lower."""
    values, p = 2**bits, Fraction(1, 2**bits)
    cutoff = restart_cutoff(float(bits))
    assert values * exact_tail(cutoff, p) <= ALPHA < values * exact_tail(cutoff - 1, p)


@pytest.mark.parametrize("h", [0.0, -1.0, 8.1])
def test_cutoff_needs_an_estimate_in_range(h):
    """An initial estimate outside 0 to 8 bits is refused."""
    with pytest.raises(ValueError, match="must be above 0"):
        restart_cutoff(h)


def test_a_column_that_repeats_is_found():
    """A sample that repeats after each restart fails the sanity check."""
    matrix = GENERATOR.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
    matrix[:, 7] = 99

    def never(_samples):
        raise AssertionError("nothing may be estimated")

    result = assess_restart(matrix, h_initial=7.0, estimate=never)
    assert (result.sane, result.passed, result.most, result.most_in) == (False, False, SIDE, "a column")
    assert result.min_entropy == 0


def test_rows_and_columns_are_estimated_apart():
    """Rows and columns are estimated separately, and the lowest result counts."""
    matrix = GENERATOR.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
    seen = []

    def estimate(samples):
        seen.append(samples.copy())
        return 6.5 if len(seen) == 1 else 6.0

    result = assess_restart(matrix, h_initial=7.0, estimate=estimate)
    assert np.array_equal(seen[0], matrix.reshape(-1))
    assert np.array_equal(seen[1], matrix.T.reshape(-1))
    assert (result.passed, result.min_entropy) == (True, 6.0)


def test_less_than_half_fails():
    """Rows with less than half of the initial estimate fail the test."""
    matrix = GENERATOR.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
    assert not assess_restart(matrix, h_initial=7.0, estimate=lambda _: 3.4).passed


def test_a_truncated_matrix_is_refused():
    """A matrix without exactly a million samples is refused with their number."""
    with pytest.raises(BadData, match="999999"):
        as_matrix(np.zeros(999_999, dtype=np.uint8))
