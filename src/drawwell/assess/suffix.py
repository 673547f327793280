"""Suffix arrays: from pydivsufsort, else from libdivsufsort itself, else by prefix doubling in NumPy.

All three give the same array, for there is but one. libdivsufsort (Yuta Mori, MIT) is what NIST's program uses;
Debian has it as libdivsufsort3. Prefix doubling (Manber and Myers 1990) needs no library and some ten times as
long.
"""

import ctypes
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from drawwell.assess.jit import kernel
from drawwell.assess.samples import Symbols

Index = NDArray[np.int32]


def suffix_array(symbols: Symbols) -> Index:
    """Starts of all suffixes in lexicographic order, shape (n,); a suffix that ends sorts before one that goes on."""
    return _engine()(symbols)


def lcp_array(symbols: Symbols, order: Index) -> Index:
    """Length of the common prefix of each suffix with the one before it in `order`; the first is 0.

    By way of Phi (Kärkkäinen, Manzini, Puglisi 2009), which walks the text from left to right.
    """
    before = np.empty(order.size, dtype=np.int32)
    before[order[1:]] = order[:-1]
    before[order[0]] = -1
    _common(symbols, before, order.size)
    return before[order]


def sorts_slowly() -> bool:
    """Is neither form of the library here, so that NumPy has to sort?"""
    return _engine() is _by_doubling


def _engine() -> Callable[[Symbols], Index]:
    try:
        import pydivsufsort  # type: ignore[import-untyped]  # noqa: PLC0415 - optional
    except ImportError:
        return _native("libdivsufsort.so.3") or _by_doubling
    engine: Callable[[Symbols], Index] = pydivsufsort.divsufsort
    return engine


def _native(library: str) -> Callable[[Symbols], Index] | None:
    """The C library's function, or None where it is not installed."""
    try:
        function = ctypes.CDLL(library).divsufsort
    except (OSError, AttributeError):
        return None

    def sort(symbols: Symbols) -> Index:
        order = np.empty(symbols.size, dtype=np.int32)
        text, starts = ctypes.c_void_p(symbols.ctypes.data), ctypes.c_void_p(order.ctypes.data)
        if function(text, starts, ctypes.c_int32(symbols.size)) != 0:
            raise MemoryError("no memory to sort the suffixes")
        return order

    return sort


def _by_doubling(symbols: Symbols) -> Index:
    """Sort by the first symbol, then by the first 2, 4, 8, … of them until all suffixes differ."""
    size = symbols.size
    rank = symbols.astype(np.int64) + 1
    span = 1
    while True:
        second = np.zeros(size, dtype=np.int64)
        second[: max(0, size - span)] = rank[span:]
        key = rank * (rank.max() + 1) + second
        order = np.argsort(key, kind="stable")
        ordered = key[order]
        changes = np.empty(size, dtype=np.int64)
        changes[0] = 1
        np.cumsum(ordered[1:] != ordered[:-1], out=changes[1:])
        changes[1:] += 1
        rank[order] = changes
        if changes[-1] == size:
            return order.astype(np.int32)
        span *= 2


@kernel
def _common(symbols: Symbols, before: Index, size: int) -> None:
    """Replace, for each suffix, its neighbour by the length that they have in common."""
    same = 0
    for at in range(size):
        other = before[at]
        if other < 0:
            before[at] = 0
            same = 0
            continue
        end = size - max(at, other)
        while same < end and symbols[at + same] == symbols[other + same]:
            same += 1
        before[at] = same
        if same > 0:
            same -= 1
