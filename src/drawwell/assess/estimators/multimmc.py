"""6.3.9 MultiMMC Prediction Estimate: a context's most frequent successor.

Each of 16 Markov models counts pairs of a context (1 to 16 symbols) and its successor, at most
100,000 different pairs. If pairs tie, the greater symbol wins. The model with the most correct
predictions leads. If it has not seen the context, the standard ends the run of correct
predictions; NIST's tool leaves the run unchanged.
"""

from typing import Final

import numpy as np

from drawwell.assess.estimators.outcome import EstimatorResult
from drawwell.assess.estimators.prediction import BLOCK, HIT, MISS, SILENT, Contest, Counts, Marks, Numbers
from drawwell.assess.jit import kernel
from drawwell.assess.samples import Symbols

_DEPTHS: Final = 16
_PAIRS: Final = 100_000
"""Section 6.3.9, step 1: capacity of one model."""


def multi_mmc(symbols: Symbols, k: int) -> EstimatorResult:
    """Return the estimate for symbols 0 to k - 1 of shape (n,)."""
    model = _BitModel(symbols) if k == 2 else _SymbolModel(symbols, k)
    contest = Contest.of(_DEPTHS)
    marks = np.zeros((_DEPTHS, BLOCK), dtype=np.uint8)
    for start in range(1, symbols.size, BLOCK):
        length = min(BLOCK, symbols.size - start)
        model.mark(start, length, marks)
        contest.score(marks, length)
    return contest.outcome(symbols.size - 2, k)


class _BitModel:
    """Counts for all 2^d contexts of each depth d, in one array."""

    def __init__(self, bits: Symbols) -> None:
        self._bits = bits
        self._counts = np.zeros((2 << _DEPTHS, 2), dtype=np.int32)
        self._pairs = np.zeros(_DEPTHS, dtype=np.int64)

    def mark(self, start: int, length: int, marks: Marks) -> None:
        _mark_bits(self._bits, start, length, self._counts, self._pairs, marks)


@kernel
def _mark_bits(bits: Symbols, start: int, length: int, counts: Counts, pairs: Numbers, marks: Marks) -> None:
    """Mark one depth at a time, because all tables together exceed the cache."""
    for row in range(16):
        depth = row + 1
        top = 1 << depth
        context = top
        for at in range(max(0, start - depth), start):
            context = top | ((context << 1 | bits[at]) & (top - 1))
        held = pairs[row]
        skip = min(length, max(0, depth - start))
        for at in range(skip):
            marks[row, at] = SILENT
            context = top | ((context << 1 | bits[start + at]) & (top - 1))
        for at in range(skip, length):
            bit = bits[start + at]
            zeros, ones = counts[context, 0], counts[context, 1]
            guess = ones >= zeros
            marks[row, at] = (guess == bit) if zeros + ones > 0 else SILENT
            if counts[context, bit] > 0:
                counts[context, bit] += 1
            elif held < _PAIRS:
                counts[context, bit] = 1
                held += 1
            context = top | ((context << 1 | bit) & (top - 1))
        pairs[row] = held


class _SymbolModel:
    """A tree of all tuples: each pair is a context of the next deeper model.

    A deeper model fills up no later than a shallower one, because every pair in the shallower
    model is the start of a distinct pair in the deeper one. Therefore, a tuple that is not in
    the tree is not in any deeper model.
    """

    def __init__(self, symbols: Symbols, k: int) -> None:
        nodes = k + _DEPTHS * min(_PAIRS, symbols.size)
        slots = 1 << (2 * nodes).bit_length()
        self._symbols = symbols
        self._keys = np.full(slots, -1, dtype=np.int64)
        self._slots = np.zeros(slots, dtype=np.int32)
        self._counts = np.zeros(nodes, dtype=np.int32)
        """The count of the tuple as a pair."""
        self._best = np.zeros((nodes, 2), dtype=np.int32)
        """The count and symbol of the best pair that has the tuple as its context."""
        self._path = np.full(_DEPTHS + 2, -1, dtype=np.int64)
        """For each length, the node of the tuple that ends before the next symbol."""
        self._path[1] = symbols[0]
        self._pairs = np.zeros(_DEPTHS + 1, dtype=np.int64)
        self._pairs[0] = k

    def mark(self, start: int, length: int, marks: Marks) -> None:
        _mark_symbols(
            self._symbols, start, length, self._keys, self._slots, self._counts, self._best, self._path,
            self._pairs, marks,
        )  # fmt: skip


@kernel
def _mark_symbols(
    symbols: Symbols,
    start: int,
    length: int,
    keys: Numbers,
    slots: Counts,
    counts: Counts,
    best: Counts,
    path: Numbers,
    pairs: Numbers,
    marks: Marks,
) -> None:
    """Follow the tree: an open-addressing hash table of (node, symbol) pairs.

    `pairs[0]` counts the nodes.
    """
    mask = keys.shape[0] - 1
    for at in range(length):
        symbol = symbols[start + at]
        above = path[1]
        path[1] = symbol
        for depth in range(1, 17):
            node = above
            above = path[depth + 1]
            path[depth + 1] = -1
            marks[depth - 1, at] = SILENT
            if node < 0:
                continue
            known = best[node, 0]
            if known > 0:
                marks[depth - 1, at] = HIT if best[node, 1] == symbol else MISS
            key = (node << 8) | symbol
            slot = ((key * 2654435761) >> 16) & mask
            while keys[slot] != key and keys[slot] != -1:
                slot = (slot + 1) & mask
            if keys[slot] == -1:
                if pairs[depth] >= _PAIRS:
                    continue
                pairs[depth] += 1
                keys[slot] = key
                slots[slot] = pairs[0]
                pairs[0] += 1
            child = slots[slot]
            counts[child] += 1
            count = counts[child]
            if count > known or (count == known and symbol > best[node, 1]):
                best[node, 0], best[node, 1] = count, symbol
            path[depth + 1] = child
