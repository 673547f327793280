"""6.3.10 LZ78Y Prediction Estimate: the most frequent successor is next.

A dictionary takes the first 65,536 contexts of 1 to 16 symbols, longest first, and counts
their successors. The context with the greatest count predicts. If counts tie, the greater
symbol and the longest context have priority. The first context ends at the 16th symbol. When
the dictionary is full, NIST's tool still adds successors to known contexts; the standard does
not.
"""

from typing import Final

import numpy as np

from drawwell.assess.estimators.outcome import EstimatorResult
from drawwell.assess.estimators.prediction import BLOCK, HIT, MISS, Contest, Counts, Marks, Numbers
from drawwell.assess.jit import kernel
from drawwell.assess.samples import Symbols

_LONGEST: Final = 16
_CONTEXTS: Final = 65_536
"""Section 6.3.10, step 1: capacity of the dictionary."""


def lz78y(symbols: Symbols, k: int) -> EstimatorResult:
    """Return the estimate for symbols 0 to k - 1 of shape (n,)."""
    model = _BitDictionary(symbols) if k == 2 else _SymbolDictionary(symbols, k)
    contest = Contest.of(1)
    marks = np.zeros((1, BLOCK), dtype=np.uint8)
    model.mark(_LONGEST, 1, marks)  # the dictionary is empty, so there is no prediction
    for start in range(_LONGEST + 1, symbols.size, BLOCK):
        length = min(BLOCK, symbols.size - start)
        model.mark(start, length, marks)
        contest.score(marks, length)
    return contest.outcome(symbols.size - _LONGEST - 1, k)


class _BitDictionary:
    """Counts for every possible context; a leading one bit marks its length."""

    def __init__(self, bits: Symbols) -> None:
        self._bits = bits
        self._counts = np.zeros((2 << _LONGEST, 2), dtype=np.int32)
        self._contexts = np.zeros(1, dtype=np.int64)
        self._most = np.zeros(BLOCK, dtype=np.int32)

    def mark(self, start: int, length: int, marks: Marks) -> None:
        room = _CONTEXTS - self._contexts[0]
        if room == 0 or room >= _LONGEST * length:
            _mark_by_length(self._bits, start, length, self._counts, self._contexts, self._most, marks)
        else:  # nearly full: insert one at a time, because order matters
            for at in range(length):
                _mark_by_length(
                    self._bits, start + at, 1, self._counts, self._contexts, self._most, marks[:, at:]
                )


@kernel
def _mark_by_length(
    bits: Symbols, start: int, length: int, counts: Counts, contexts: Numbers, most: Counts, marks: Marks
) -> None:
    """Mark by context length, longest first; a greater count takes priority."""
    held = contexts[0]
    for at in range(length):
        most[at] = 0
        marks[0, at] = MISS
    for shorter in range(16):
        size = 16 - shorter
        top = 1 << size
        context = top
        for at in range(start - size, start):
            context = top | ((context << 1 | bits[at]) & (top - 1))
        for at in range(length):
            bit = bits[start + at]
            zeros, ones = counts[context, 0], counts[context, 1]
            count = max(zeros, ones)
            if count > most[at]:
                most[at] = count
                marks[0, at] = (ones >= zeros) == bit
            if count > 0:
                counts[context, bit] += 1
            elif held < _CONTEXTS:
                counts[context, bit] = 1
                held += 1
            context = top | ((context << 1 | bit) & (top - 1))
    contexts[0] = held


class _SymbolDictionary:
    """A tree that grows leftwards: a parent lacks its child's first symbol.

    Parents are inserted after their children. Therefore, the step that fills the dictionary
    can leave contexts without parents ("orphans"). The tree leads to all other contexts.
    """

    def __init__(self, symbols: Symbols, k: int) -> None:
        self._symbols = symbols
        self._children = np.zeros((_CONTEXTS + 1, k), dtype=np.int32)
        self._counts = np.zeros((_CONTEXTS + 1, k), dtype=np.int32)
        self._best = np.zeros((_CONTEXTS + 1, 2), dtype=np.int32)
        """The count of the most frequent successor, and that symbol."""
        self._state = np.zeros(3, dtype=np.int64)
        """Number of contexts; place of the last insertions, and their shortest length."""
        self._last = np.zeros(_LONGEST + 1, dtype=np.int32)
        """The contexts inserted last, by length."""
        self._found = np.zeros(_LONGEST + 1, dtype=np.int32)
        """The context of each length before the next symbol; 0 for none."""

    def mark(self, start: int, length: int, marks: Marks) -> None:
        _mark_symbols(
            self._symbols, start, length, self._children, self._counts, self._best, self._state, self._last,
            self._found, marks,
        )  # fmt: skip


@kernel
def _mark_symbols(
    symbols: Symbols, start: int, length: int, children: Counts, counts: Counts, best: Counts, state: Numbers,
    last: Counts, found: Counts, marks: Marks,
) -> None:  # fmt: skip
    """Look up all contexts, insert new ones longest first, predict, and count."""
    for at in range(start, start + length):
        symbol = symbols[at]
        _look_up(symbols, at, children, state, last, found)
        held = state[0]
        most = 0
        guess = -1
        for size in range(16, 0, -1):
            node = found[size]
            if node == 0 and state[0] < _CONTEXTS:
                state[0] += 1
                node = state[0]
                found[size] = node
                last[size] = node
                state[1], state[2] = at, size
            elif node > 0 and best[node, 0] > most:
                most, guess = best[node, 0], best[node, 1]
            if node > 0:
                counts[node, symbol] += 1
                count = counts[node, symbol]
                if count > best[node, 0] or (count == best[node, 0] and symbol > best[node, 1]):
                    best[node, 0], best[node, 1] = count, symbol
        marks[0, at - start] = HIT if guess == symbol else MISS
        if state[0] > held:
            _link(symbols, at, children, found)


@kernel
def _look_up(
    symbols: Symbols, at: int, children: Counts, state: Numbers, last: Counts, found: Counts
) -> None:
    """Search the tree, and then compare the orphans symbol by symbol."""
    known = 0
    node = children[0, symbols[at - 1]]
    while node > 0:
        known += 1
        found[known] = node
        node = children[node, symbols[at - known - 1]] if known < 16 else 0
    for size in range(known + 1, 17):
        found[size] = 0
    if known < state[2]:
        size = 1
        while size <= 16 and symbols[at - size] == symbols[state[1] - size]:
            if size >= state[2]:
                found[size] = last[size]
            size += 1


@kernel
def _link(symbols: Symbols, at: int, children: Counts, found: Counts) -> None:
    """Make each context the child of the next shorter one, if there is one."""
    node = 0
    for size in range(1, 17):
        if found[size] == 0:
            break
        children[node, symbols[at - size]] = found[size]
        node = found[size]
