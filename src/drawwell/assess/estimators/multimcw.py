"""6.3.7 MultiMCW Prediction Estimate: the mode of a window comes next.

The windows are the last 63, 255, 1,023 and 4,095 symbols. If symbols tie, the most recent one
is the mode. A window predicts only when it is full. The tool and the standard agree. For bits
a running count suffices: the window lengths are odd, so two symbols never tie.
"""

from typing import Final

import numpy as np

from drawwell.assess.estimators.outcome import EstimatorResult
from drawwell.assess.estimators.prediction import BLOCK, MISS, Contest, Marks, Numbers
from drawwell.assess.jit import kernel
from drawwell.assess.samples import Symbols

_WINDOWS: Final = (63, 255, 1023, 4095)


def multi_mcw(symbols: Symbols, k: int) -> EstimatorResult:
    """Return the estimate for symbols 0 to k - 1; None below 4,096 symbols."""
    if symbols.size <= _WINDOWS[-1]:
        return EstimatorResult(None)
    windows = np.array(_WINDOWS)
    marks = np.zeros((windows.size, BLOCK), dtype=np.uint8)
    counts = np.zeros((windows.size, k), dtype=np.int64)
    places = np.zeros((windows.size, k), dtype=np.int64)
    modes = np.zeros((windows.size, 2), dtype=np.int64)
    mark = _mark_bits if k == 2 else _mark_symbols
    mark(symbols, 0, _WINDOWS[0], windows, counts, places, modes, marks)
    contest = Contest.of(windows.size)
    for start in range(_WINDOWS[0], symbols.size, BLOCK):
        length = min(BLOCK, symbols.size - start)
        mark(symbols, start, length, windows, counts, places, modes, marks)
        contest.score(marks, length)
    return contest.outcome(symbols.size - _WINDOWS[0], k)


@kernel
def _mark_bits(
    bits: Symbols,
    start: int,
    length: int,
    windows: Numbers,
    counts: Numbers,
    places: Numbers,
    modes: Numbers,
    marks: Marks,
) -> None:
    """Mark which windows are right; `counts` contains each window's ones."""
    for row in range(4):
        window = windows[row]
        ones = counts[row, 1]
        for at in range(start, start + length):
            bit = bits[at]
            marks[row, at - start] = MISS
            if at >= window:
                marks[row, at - start] = (2 * ones > window) == bit
                ones -= bits[at - window]
            ones += bit
        counts[row, 1] = ones


@kernel
def _mark_symbols(
    symbols: Symbols,
    start: int,
    length: int,
    windows: Numbers,
    counts: Numbers,
    places: Numbers,
    modes: Numbers,
    marks: Marks,
) -> None:
    """Mark which windows are right, for any alphabet.

    `counts` and `places` contain each symbol's frequency and last position per window. `modes`
    contains each window's mode and the mode's count.
    """
    for row in range(4):
        window = windows[row]
        mode, most = modes[row, 0], modes[row, 1]
        for at in range(start, start + length):
            symbol = symbols[at]
            gone = -1
            marks[row, at - start] = MISS
            if at >= window:
                marks[row, at - start] = mode == symbol
                gone = symbols[at - window]
                counts[row, gone] -= 1
            counts[row, symbol] += 1
            places[row, symbol] = at
            if gone == mode:
                most -= 1
                latest = at - window
                for each in range(counts.shape[1]):
                    count = counts[row, each]
                    if count > most or (count == most and places[row, each] >= latest):
                        mode, most, latest = each, count, places[row, each]
            elif counts[row, symbol] >= most:
                mode, most = symbol, counts[row, symbol]
        modes[row, 0], modes[row, 1] = mode, most
