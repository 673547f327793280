"""Suffix arrays by pydivsufsort, libdivsufsort or prefix doubling.

All three methods return the same array. NIST's tool uses libdivsufsort (Yuta Mori, MIT), in
Debian's package libdivsufsort3. Prefix doubling (Manber and Myers 1990) needs only NumPy and
takes ten times as long.
"""

import ctypes
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from drawwell.assess.jit import kernel
from drawwell.assess.samples import Symbols

Index = NDArray[np.int32]


def suffix_array(symbols: Symbols) -> Index:
    """Sort all suffixes, a prefix before longer ones; return their starts."""
    return _engine()(symbols)


def lcp_array(symbols: Symbols, order: Index) -> Index:
    """Return the length of each suffix's common prefix with its predecessor.

    The first is 0. Phi algorithm (Kärkkäinen, Manzini, Puglisi 2009), from left to right.
    """
    before = np.empty(order.size, dtype=np.int32)
    before[order[1:]] = order[:-1]
    before[order[0]] = -1
    _common(symbols, before, order.size)
    return before[order]


def sorts_slowly() -> bool:
    """Return whether NumPy must sort because neither library is installed."""
    return _engine() is _by_doubling


def _engine() -> Callable[[Symbols], Index]:
    try:
        import pydivsufsort  # type: ignore[import-untyped]  # noqa: PLC0415 - optional
    except ImportError:
        return _native("libdivsufsort.so.3") or _by_doubling
    engine: Callable[[Symbols], Index] = pydivsufsort.divsufsort
    return engine


def _native(library: str) -> Callable[[Symbols], Index] | None:
    """Load the C library's function; return None if it is not installed."""
    try:
        function = ctypes.CDLL(library).divsufsort
    except (OSError, AttributeError):
        return None

    def sort(symbols: Symbols) -> Index:
        order = np.empty(symbols.size, dtype=np.int32)
        text, starts = ctypes.c_void_p(symbols.ctypes.data), ctypes.c_void_p(order.ctypes.data)
        if function(text, starts, ctypes.c_int32(symbols.size)) != 0:
            raise MemoryError("not enough memory to sort the suffixes")
        return order

    return sort


def _by_doubling(symbols: Symbols) -> Index:
    """Sort by the first 1, 2, 4, 8, … symbols until all suffixes differ."""
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
    """Replace each suffix's predecessor by the length of their common prefix."""
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
