"""6.3.5 t-Tuple and 6.3.6 LRS Estimates: how frequent are repeated tuples?

For each length i, Q[i] is the count of the most frequent tuple. The t-tuple estimate uses all
lengths with Q[i] >= 35: P[i] = (Q[i] / (L - i + 1))^(1/i). The LRS estimate uses the greater
lengths, up to that of the longest repeated substring: P[i] = (S[i] / C(L - i + 1, 2))^(1/i).
S[i] is the number of pairs of equal tuples. Each result is the 99 % upper bound of the
greatest P[i].

Each set of equal tuples is an interval of the suffix array. One pass over the common prefixes
visits each interval once and finds its count and range of lengths. Q is then a maximum over
greater lengths, and S is a running sum. NIST's tool computes the powers in extended precision.
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
"""Section 6.3.5, step 1: the minimum count that matters."""

_Z_ALPHA: Final = np.longdouble("2.575829303548900384158")
_PIECE: Final = 1 << 18
_NEAR: Final = 1.0 + 1e-13
"""Powers are compared by logarithm; the error in double precision is smaller than this."""


def tuples(symbols: Symbols) -> tuple[EstimatorResult, EstimatorResult]:
    """Return the t-tuple and LRS estimates for any alphabet, shape (n,)."""
    most, pairs = _counts(symbols)
    size, longest = symbols.size, most.size - 2
    often = int(np.count_nonzero(most[1:-1] >= _OFTEN))
    t_tuple = _bound(most, range(1, often + 1), size, _starts, {"t": often})
    repeated = range(often + 1, longest + 1)
    return t_tuple, _bound(pairs, repeated, size, _choices, {"u": often + 1, "v": longest})


def _counts(symbols: Symbols) -> tuple[Numbers, Numbers]:
    """Return Q and S by length, from 0 to one more than the longest repeat."""
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
    """Return the greatest (count / total)^(1 / length) and its upper bound."""
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
    """Return the lengths whose powers, in double precision, may be greatest.

    Extended precision is slow. Repetitive data have millions of lengths, so chunks are used.
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
    """Visit the intervals to find the greatest counts and the changes of S.

    Args:
        common: Common prefix lengths; an interval is a stretch at or above its length.
        size: The number of common prefix lengths.
        most: Receives, by length, the greatest count of an interval of exactly this length.
        pairs: Receives the changes of S by length; S is their running sum.
        stack: Scratch space for lengths and first indices, shape (2, longest + 2).
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
