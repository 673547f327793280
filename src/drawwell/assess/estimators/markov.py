"""6.3.3 Markov Estimate, for bits: the most likely 128 bits of a chain.

The most likely path of a first-order chain is constant, alternates, or is constant after its
first bit: six candidates. Min-entropy is -log2(probability) / 128, at most 1. The tool and the
standard agree.
"""

import math

import numpy as np

from drawwell.assess.estimators.outcome import EstimatorResult
from drawwell.assess.samples import Symbols

_LENGTH = 128


def markov(bits: Symbols) -> EstimatorResult:
    """Return the estimate for bits of shape (n,)."""
    zeros = (bits.size - int(np.count_nonzero(bits))) / bits.size
    first = (zeros, 1.0 - zeros)
    step = [_shares(row) for row in _pairs(bits)]
    candidates = (
        (0, ((0, 0, 127),)),
        (0, ((0, 1, 64), (1, 0, 63))),
        (0, ((0, 1, 1), (1, 1, 126))),
        (1, ((1, 0, 1), (0, 0, 126))),
        (1, ((1, 0, 64), (0, 1, 63))),
        (1, ((1, 1, 127),)),
    )
    least = float(_LENGTH)
    for start, moves in candidates:
        if all(step[a][b] > 0.0 for a, b, _ in moves):
            cost = -math.log2(first[start]) - sum(times * math.log2(step[a][b]) for a, b, times in moves)
            least = min(least, cost)
    details = {"p_0": first[0], "p_1": first[1]} | {f"p_{a}{b}": step[a][b] for a in (0, 1) for b in (0, 1)}
    return EstimatorResult(min(least / _LENGTH, 1.0) + 0.0, None, details)


def _pairs(bits: Symbols) -> list[list[int]]:
    """Count the transitions: [[00, 01], [10, 11]]."""
    ones = int(np.count_nonzero(bits))
    followed, following = ones - int(bits[-1]), ones - int(bits[0])
    both = int(np.count_nonzero(bits[:-1] & bits[1:]))
    neither = bits.size - 1 - followed - following + both
    return [[neither, following - both], [followed - both, both]]


def _shares(row: list[int]) -> tuple[float, float]:
    """Return a state's transition probabilities; zeros if it never occurs."""
    total = sum(row)
    if total == 0:
        return 0.0, 0.0
    zero = row[0] / total
    return zero, 1.0 - zero
