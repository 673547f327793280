"""6.3.5 t-Tuple Estimate and 6.3.6 LRS Estimate: how often do the most frequent tuples come, of every length?

For each length i, Q[i] is the count of the most frequent tuple. The t-tuple estimate takes the lengths with
Q[i] >= 35, P[i] = (Q[i] / (L - i + 1))^(1/i); the LRS estimate takes the lengths from there up to that of the
longest repeated substring, with the probability P[i] = (S[i] / C(L - i + 1, 2))^(1/i) that two tuples are the
same, S[i] the number of pairs of equal ones. Of the greatest P[i] the 99 % upper bound counts.

Every set of equal tuples is an interval of the suffix array. One walk over the common prefixes with a stack
meets each interval once, with its count and the lengths it stands for: Q is then a maximum over longer
lengths, S a running sum of differences. NIST's program computes the powers in extended precision.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from drawwell.assess.estimators.outcome import EstimatorResult
from drawwell.assess.jit import kernel
from drawwell.assess.results import Number
from drawwell.assess.samples import Symbols
from drawwell.assess.suffix import Index, lcp_array, suffix_array

Numbers = NDArray[np.int64]

_OFTEN: Final = 35
"""Section 6.3.5, step 1: the least count that is looked at."""

_Z_ALPHA: Final = np.longdouble("2.575829303548900384158")
_PIECE: Final = 1 << 18
_NEAR: Final = 1.0 + 1e-13
"""Logarithms of powers are negative; these are within rounding of the greatest."""


def tuples(symbols: Symbols) -> tuple[EstimatorResult, EstimatorResult]:
    """The t-tuple and the LRS estimate over symbols of any alphabet, shape (n,)."""
    most, pairs = _counts(symbols)
    size, longest = symbols.size, most.size - 2
    often = int(np.count_nonzero(most[1:-1] >= _OFTEN))
    t_tuple = _bound(most, range(1, often + 1), size, _starts, {"t": often})
    repeated = range(often + 1, longest + 1)
    return t_tuple, _bound(pairs, repeated, size, _choices, {"u": often + 1, "v": longest})


def _counts(symbols: Symbols) -> tuple[Numbers, Numbers]:
    """Q and S by length, from 0 to one more than the longest repeated substring's."""
    order = suffix_array(symbols)
    common = lcp_array(symbols, order)
    del order
    lengths = int(common.max()) + 2
    most, pairs = np.ones(lengths, dtype=np.int64), np.zeros(lengths, dtype=np.int64)
    _intervals(common, common.size, most, pairs, np.empty((2, lengths), dtype=np.int32))
    np.maximum.accumulate(most[::-1], out=most[::-1])
    np.cumsum(pairs, out=pairs)
    return most, pairs


def _starts(length: Numbers, size: int) -> Numbers:
    return size - length + 1


def _choices(length: Numbers, size: int) -> Numbers:
    return (size - length) * (size - length + 1) // 2


def _bound(
    counts: Numbers,
    lengths: range,
    size: int,
    total: Callable[[Numbers, int], Numbers],
    details: dict[str, Number],
) -> EstimatorResult:
    """Of (count / total)^(1 / length) the greatest, and its upper bound, in extended precision."""
    if not lengths:
        return EstimatorResult(None)
    length = _nearly_greatest(counts, lengths, size, total)
    one = np.longdouble(1)
    share = counts[length].astype(np.longdouble) / total(length, size).astype(np.longdouble)
    p_hat = np.max(share ** (one / length.astype(np.longdouble)))
    p_u = min(one, p_hat + _Z_ALPHA * np.sqrt(p_hat * (one - p_hat) / np.longdouble(size - 1)))
    return EstimatorResult(float(0 - np.log2(p_u)), float(p_u), details | {"p_hat": float(p_hat)})


def _nearly_greatest(
    counts: Numbers, lengths: range, size: int, total: Callable[[Numbers, int], Numbers]
) -> Numbers:
    """Lengths whose power is the greatest as far as double precision can tell: extended precision is slow.

    Repetitive data have millions of lengths, so they are gone through in pieces.
    """
    found, logs = [], []
    for start in range(lengths.start, lengths.stop, _PIECE):
        length = np.arange(start, min(start + _PIECE, lengths.stop))
        count, whole = counts[length], total(length, size)
        rest = (whole - count) / whole
        with np.errstate(divide="ignore"):
            log = np.where(rest < 0.5, np.log1p(-rest), np.log(count / whole)) / length
        near = log >= log.max() * _NEAR
        found.append(length[near])
        logs.append(log[near])
    log = np.concatenate(logs)
    nearly: Numbers = np.concatenate(found)[log >= log.max() * _NEAR]
    return nearly


@kernel
def _intervals(common: Index, size: int, most: Numbers, pairs: Numbers, stack: NDArray[np.int32]) -> None:
    """Walk the intervals: the greatest count at each one's own length, the steps of the pairs' sum.

    Args:
        common: The common prefixes; an interval is a stretch of them that are no shorter than its length.
        size: Their number.
        most: Filled with the greatest count of an interval of exactly this length.
        pairs: Filled with differences; its running sum is S.
        stack: Room for lengths and first indices, shape (2, longest + 2).
    """
    top = 0
    stack[0, 0] = 0
    stack[1, 0] = 0
    for at in range(1, size + 1):
        height = common[at] if at < size else 0
        first = at - 1
        while stack[0, top] > height:
            length = stack[0, top]
            first = stack[1, top]
            top -= 1
            parent = max(stack[0, top], height)
            count = at - first
            most[length] = max(most[length], count)
            choices = count * (count - 1) // 2
            pairs[parent + 1] += choices
            pairs[length + 1] -= choices
        if stack[0, top] < height:
            top += 1
            stack[0, top] = height
            stack[1, top] = first
