"""6.3.9 MultiMMC Prediction Estimate: after the same 1 to 16 symbols, the one that followed most often follows.

Each of 16 Markov models counts pairs of context and next symbol, 100,000 different pairs at most; a tie goes to
the greater symbol. Where the leader has not seen the context before, NIST's program leaves the run of right
predictions as it is; the standard would end it.
"""

from typing import Final

import numpy as np

from drawwell.assess.estimators.outcome import EstimatorResult
from drawwell.assess.estimators.prediction import BLOCK, HIT, MISS, SILENT, Contest, Counts, Marks, Numbers
from drawwell.assess.jit import kernel
from drawwell.assess.samples import Symbols

_DEPTHS: Final = 16
_PAIRS: Final = 100_000
"""Section 6.3.9, step 1: the most that one model may hold."""


def multi_mmc(symbols: Symbols, k: int) -> EstimatorResult:
    """Over symbols 0 to k - 1, shape (n,)."""
    model = _BitModel(symbols) if k == 2 else _SymbolModel(symbols, k)
    contest = Contest.of(_DEPTHS)
    marks = np.zeros((_DEPTHS, BLOCK), dtype=np.uint8)
    for start in range(1, symbols.size, BLOCK):
        length = min(BLOCK, symbols.size - start)
        model.mark(start, length, marks)
        contest.score(marks, length)
    return contest.outcome(symbols.size - 2, k)


class _BitModel:
    """A table of counts for every context there can be: 2^d for depth d, all depths in one array."""

    def __init__(self, bits: Symbols) -> None:
        self._bits = bits
        self._counts = np.zeros((2 << _DEPTHS, 2), dtype=np.int32)
        self._pairs = np.zeros(_DEPTHS, dtype=np.int64)

    def mark(self, start: int, length: int, marks: Marks) -> None:
        _mark_bits(self._bits, start, length, self._counts, self._pairs, marks)


@kernel
def _mark_bits(bits: Symbols, start: int, length: int, counts: Counts, pairs: Numbers, marks: Marks) -> None:
    """Depth by depth, for the tables of all depths together outgrow the cache. Contexts carry a one on top."""
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
    """All tuples seen, as a tree: the tuple of a context and its next symbol is the longer model's next context.

    No model of greater depth fills up later than a shorter one: every pair of the shorter begins a different
    pair of the longer. A tuple that the tree lacks is therefore in no longer model either.
    """

    def __init__(self, symbols: Symbols, k: int) -> None:
        nodes = k + _DEPTHS * min(_PAIRS, symbols.size)
        slots = 1 << (2 * nodes).bit_length()
        self._symbols = symbols
        self._keys = np.full(slots, -1, dtype=np.int64)
        self._slots = np.zeros(slots, dtype=np.int32)
        self._counts = np.zeros(nodes, dtype=np.int32)
        """How often the tuple came as a pair."""
        self._best = np.zeros((nodes, 2), dtype=np.int32)
        """As a context: count of its best pair, and the symbol of that."""
        self._path = np.full(_DEPTHS + 2, -1, dtype=np.int64)
        """Nodes of the tuples of each length that end where the next symbol follows."""
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
    """Follow the tree: a hash table over (node, symbol), open addressing; `pairs[0]` counts the nodes."""
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
