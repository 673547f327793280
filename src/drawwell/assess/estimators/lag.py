"""6.3.8 Lag Prediction Estimate: a symbol repeats after 1 to 128 places.

The tool and the standard agree; if two scores tie, the greater lag leads.

Bits are compared 64 at a time: a word with a shifted copy of itself. Only the few lags that
can reach the leader's score within the word are then scored bit by bit.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from drawwell.assess.estimators.outcome import EstimatorResult
from drawwell.assess.estimators.prediction import Contest, Marks, Numbers
from drawwell.assess.jit import COMPILED, count_ones, kernel
from drawwell.assess.samples import Symbols

Words64 = NDArray[np.uint64]

_LAGS: Final = 128
_BLOCK: Final = 4096 if COMPILED else 1024


def lag(symbols: Symbols, k: int) -> EstimatorResult:
    """Return the estimate for symbols 0 to k - 1 of shape (n,)."""
    contest = Contest.of(_LAGS)
    if k == 2 and COMPILED:
        equal = np.zeros(_LAGS, dtype=np.uint64)
        _contest_of_bits(
            _words64(symbols), symbols.size, contest.scores, equal, contest.totals, contest.state
        )
    else:
        marks = np.zeros((_LAGS, _BLOCK), dtype=np.uint8)
        for start in range(1, symbols.size, _BLOCK):
            length = min(_BLOCK, symbols.size - start)
            _mark(symbols, start, length, marks)
            contest.score(marks, length)
    return contest.outcome(symbols.size - 1, k)


def _mark(symbols: Symbols, start: int, length: int, marks: Marks) -> None:
    """Mark the correct lags; a lag that reaches before the start is wrong."""
    now = symbols[start : start + length]
    for each in range(_LAGS):
        skip = min(length, max(0, each + 1 - start))
        marks[each, :skip] = 0
        np.equal(
            now[skip:],
            symbols[start + skip - each - 1 : start + length - each - 1],
            out=marks[each, skip:length],
        )


def _words64(bits: Symbols) -> Words64:
    """Pack bits into 64-bit integers, earliest bit lowest, after two zeros."""
    packed = np.packbits(bits, bitorder="little")
    words64 = np.zeros(2 + (packed.size + 7) // 8, dtype="<u8")
    words64.view(np.uint8)[16 : 16 + packed.size] = packed
    return words64.astype(np.uint64)


@kernel
def _contest_of_bits(
    words64: Words64, size: int, scores: Numbers, equal: Words64, totals: Numbers, state: Numbers
) -> None:
    """Score all bits; `equal` and `totals` are scratch space, indexed by lag."""
    for index in range(2, words64.shape[0]):
        first = 64 * (index - 2)
        length = min(64, size - first)
        _compare(words64, index, length, equal)
        if first < 128:
            _drop_before_start(first, equal)
        for each in range(128):
            totals[each] = count_ones(equal[each])
        _follow(length, scores, equal, totals, state)


@kernel
def _compare(words64: Words64, index: int, length: int, equal: Words64) -> None:
    """Mark, for each lag from 1 to 128, the bits that equal the earlier bit."""
    now, before, earlier = words64[index], words64[index - 1], words64[index - 2]
    kept = ~np.uint64(0) >> np.uint64(64 - length)
    for each in range(63):
        shift = np.uint64(each + 1)
        equal[each] = ~(now ^ ((now << shift) | (before >> (np.uint64(64) - shift)))) & kept
    equal[63] = ~(now ^ before) & kept
    for each in range(64, 127):
        shift = np.uint64(each - 63)
        equal[each] = ~(now ^ ((before << shift) | (earlier >> (np.uint64(64) - shift)))) & kept
    equal[127] = ~(now ^ earlier) & kept


@kernel
def _drop_before_start(first: int, equal: Words64) -> None:
    """Clear the bits of lags that reach before the first bit."""
    for each in range(128):
        reach = each + 1 - first
        if reach >= 64:
            equal[each] = np.uint64(0)
        elif reach > 0:
            equal[each] &= ~np.uint64(0) << np.uint64(reach)


@kernel
def _follow(length: int, scores: Numbers, equal: Words64, totals: Numbers, state: Numbers) -> None:
    """Score a lag bit by bit if it can reach the leader, else by its sum."""
    leader, correct, run, longest = state[0], state[1], state[2], state[3]
    lead = scores[leader]
    rivals = 0
    for each in range(128):
        gained = totals[each]
        if scores[each] + gained >= lead:
            totals[rivals] = each
            rivals += 1
        else:
            scores[each] += gained
    for at in range(length):
        place = np.uint64(at)
        if (equal[leader] >> place) & np.uint64(1):
            correct += 1
            run += 1
            longest = max(longest, run)
        else:
            run = 0
        for rival in range(rivals):
            each = totals[rival]
            if (equal[each] >> place) & np.uint64(1):
                scores[each] += 1
                if scores[each] >= lead:
                    leader = each
                    lead = scores[each]
    state[0], state[1], state[2], state[3] = leader, correct, run, longest
