"""6.3.5 t-Tuple Estimate and 6.3.6 LRS Estimate: how often do the most frequent tuples come, of every length?

For each length i, Q[i] is the count of the most frequent tuple. The t-tuple estimate takes the lengths with
Q[i] >= 35, P[i] = (Q[i] / (L - i + 1))^(1/i); the LRS estimate takes the lengths from there up to that of the
longest repeated substring, with the probability P[i] = (S[i] / C(L - i + 1, 2))^(1/i) that two tuples are the
same, S[i] the number of pairs of equal ones. Of the greatest P[i] the 99 % upper bound counts.

Every set of equal tuples is an interval of the suffix array. One walk over the common prefixes with a stack
meets each interval once, with its count and the lengths it stands for: Q is then a maximum over longer
lengths, S a running sum of differences. NIST's program computes the powers in extended precision.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from drawwell.assess.estimators.outcome import Outcome
from drawwell.assess.jit import kernel
from drawwell.assess.samples import Symbols
from drawwell.assess.suffix import Index, lcp_array, suffix_array

_OFTEN: Final = 35
"""Section 6.3.5, step 1: the least count that is looked at."""

_Z_ALPHA: Final = np.longdouble("2.575829303548900384158")


def tuples(symbols: Symbols) -> tuple[Outcome, Outcome]:
    """The t-tuple and the LRS estimate over symbols of any alphabet, shape (n,)."""
    order = suffix_array(symbols)
    common = lcp_array(symbols, order)
    del order
    longest = int(common.max())
    most = np.ones(longest + 2, dtype=np.int64)
    pairs = np.zeros(longest + 2, dtype=np.int64)
    _intervals(common, common.size, most, pairs, np.empty((2, longest + 2), dtype=np.int32))
    most = np.maximum.accumulate(most[::-1])[::-1]
    pairs = np.cumsum(pairs)
    often = int(np.count_nonzero(most[1 : longest + 1] >= _OFTEN))
    return _t_tuple(most, often, symbols.size), _repeated(pairs, often + 1, longest, symbols.size)


def _t_tuple(most: NDArray[np.int64], often: int, size: int) -> Outcome:
    if often == 0:
        return Outcome(None)
    length = np.arange(1, often + 1)
    return _bound(most[1 : often + 1], size - length + 1, length, size, {"t": often})


def _repeated(pairs: NDArray[np.int64], start: int, longest: int, size: int) -> Outcome:
    if longest < start:
        return Outcome(None)
    length = np.arange(start, longest + 1)
    choices = (size - length) * (size - length + 1) // 2
    return _bound(pairs[start : longest + 1], choices, length, size, {"u": start, "v": longest})


def _bound(
    count: NDArray[np.int64],
    total: NDArray[np.int64],
    length: NDArray[np.int64],
    size: int,
    details: dict[str, int],
) -> Outcome:
    """Of (count / total)^(1 / length) the greatest, and its upper bound, in extended precision."""
    near = _nearly_greatest(count, total, length)
    share = count[near].astype(np.longdouble) / total[near].astype(np.longdouble)
    one = np.longdouble(1)
    p_hat = np.max(share ** (one / length[near].astype(np.longdouble)))
    p_u = min(one, p_hat + _Z_ALPHA * np.sqrt(p_hat * (one - p_hat) / np.longdouble(size - 1)))
    return Outcome(float(0 - np.log2(p_u)), float(p_u), details | {"p_hat": float(p_hat)})


def _nearly_greatest(
    count: NDArray[np.int64], total: NDArray[np.int64], length: NDArray[np.int64]
) -> NDArray[np.intp]:
    """Where the power is the greatest as far as double precision can tell: extended precision is slow."""
    rest = (total - count) / total
    with np.errstate(divide="ignore"):
        logs = np.where(rest < 0.5, np.log1p(-rest), np.log(count / total)) / length
    greatest = logs.max()
    return np.flatnonzero(logs >= greatest * (1.0 + 1e-13))


@kernel
def _intervals(
    common: Index, size: int, most: NDArray[np.int64], pairs: NDArray[np.int64], stack: NDArray[np.int32]
) -> None:
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
