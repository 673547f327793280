"""The FIPS 140-2 tests for many blocks at once, used by `BlockTester`.

Numba compiles the loops. Each 32-bit word is the low half of a 64-bit number; the high half is
the preceding word. Every run of up to 33 bits that ends in the word is therefore visible
without a carry, and the CPU can process eight numbers in parallel.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from drawwell.assess.fips140.verdict import BLOCK_BYTES, MONOBIT, POKER, RUNS, WORD_BYTES, BlockVerdict
from drawwell.assess.jit import count_ones, kernel

PER_BLOCK: Final = BLOCK_BYTES // WORD_BYTES
WINDOWS: Final = 7
"""Windows of 1 to 7 equal bits; their differences count runs of 1 to 5 and of 6 or more."""
COUNTS: Final = 2 * WINDOWS + 3
"""Windows of ones and of zeros, the poker sum, runs of 26 or more, repeated 32-bit words."""

_NEVER: Final = range(1)
# For each count: the range of passing values, and the test that fails outside it.
_JUDGED: Final = (
    (MONOBIT, BlockVerdict.MONOBIT),
    (POKER, BlockVerdict.POKER),
    (_NEVER, BlockVerdict.LONG_RUN),
    (_NEVER, BlockVerdict.CONTINUOUS_RUN),
    *((runs, BlockVerdict.RUNS) for runs in RUNS + RUNS),
)
_LEAST: Final = np.array([passes[0] for passes, _ in _JUDGED])
_MOST: Final = np.array([passes[-1] for passes, _ in _JUDGED])
_MASKS: Final = np.array([test for _, test in _JUDGED], dtype=np.uint8)

_LOW: Final = np.uint64(0xFFFFFFFF)
_ALL: Final = np.uint64(0xFFFFFFFFFFFFFFFF)


def judge(blocks: bytes | memoryview, before: int) -> bytes:
    """Test whole blocks; return one byte per block, its `BlockVerdict`.

    `before` is the 32-bit word before the first block.
    """
    words32 = np.frombuffer(blocks, dtype=">u4").astype(np.uint32)
    counts = np.empty((len(words32) // PER_BLOCK, COUNTS), dtype=np.int64)
    _count(words32, np.int64(before), counts)
    windows = counts[:, : 2 * WINDOWS].reshape(-1, 2, WINDOWS)
    runs = windows[:, :, :-1] - windows[:, :, 1:]  # runs of at least this many bits
    runs[:, :, :-1] -= runs[:, :, 1:].copy()
    judged = np.column_stack((counts[:, 0], counts[:, 2 * WINDOWS :], runs.reshape(len(runs), -1)))
    failed = (judged < _LEAST) | (judged > _MOST)
    verdicts: NDArray[np.uint8] = np.bitwise_or.reduce(failed * _MASKS, axis=1)
    return verdicts.tobytes()


@kernel
def _count(words32: NDArray[np.uint32], before: np.int64, counts: NDArray[np.int64]) -> None:
    """Fill one row of `counts` per block; `before` precedes the first block."""
    marks = np.empty(PER_BLOCK, dtype=np.uint64)
    for row in range(len(counts)):
        block = words32[row * PER_BLOCK : (row + 1) * PER_BLOCK]
        _pair(block, marks)
        long_runs = _windows(marks, counts[row, :WINDOWS])
        _pair(block, marks)
        for at in range(PER_BLOCK):
            marks[at] ^= _ALL
        long_runs += _windows(marks, counts[row, WINDOWS : 2 * WINDOWS])
        counts[row, 2 * WINDOWS] = _poker_sum(block)
        counts[row, 2 * WINDOWS + 1] = long_runs
        counts[row, 2 * WINDOWS + 2] = _repeats(block, before)
        before = np.int64(block[PER_BLOCK - 1])


@kernel
def _pair(block: NDArray[np.uint32], marks: NDArray[np.uint64]) -> None:
    """Combine each word with its predecessor; no run enters the first word."""
    first = np.uint64(block[0])
    marks[0] = first if first >> np.uint64(31) else first | _ALL ^ _LOW
    for at in range(1, PER_BLOCK):
        marks[at] = np.uint64(block[at - 1]) << np.uint64(32) | np.uint64(block[at])


@kernel
def _windows(marks: NDArray[np.uint64], totals: NDArray[np.int64]) -> int:
    """Count windows of 1 to 7 ones; return the number of ends of 26 ones."""
    for length in range(WINDOWS):
        total = np.int64(0)
        for at in range(PER_BLOCK):
            mark = marks[at]
            total += count_ones(mark & _LOW)
            marks[at] = mark & mark >> np.uint64(1)
        totals[length] = total
    long_runs = 0
    for at in range(PER_BLOCK):
        mark = marks[at]  # a set bit ends a run of eight
        mark &= mark >> np.uint64(8)
        mark &= mark >> np.uint64(10)
        long_runs += (mark & _LOW) != 0
    return long_runs


@kernel
def _poker_sum(block: NDArray[np.uint32]) -> int:
    """Sum the squared counts of the 16 nibble values."""
    pairs = np.zeros(256, dtype=np.int64)
    for word in block:
        for shift in range(0, 32, 8):
            pairs[word >> np.uint32(shift) & np.uint32(0xFF)] += 1
    total = 0
    for nibble in range(16):
        count = 0
        for other in range(16):
            count += pairs[16 * nibble + other] + pairs[16 * other + nibble]
        total += count * count
    return total


@kernel
def _repeats(block: NDArray[np.uint32], before: np.int64) -> int:
    repeats = int(np.int64(block[0]) == before)
    for at in range(1, PER_BLOCK):
        repeats += block[at] == block[at - 1]
    return repeats
