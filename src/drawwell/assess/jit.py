"""Loops that are compiled if Numba is installed and otherwise interpreted.

Numba caches compiled code next to the source or in the user's cache directory, so only the
very first run waits for the compiler. Interpreted loops return the same results, but take
about a hundred times as long. They use memoryviews, which are three times as fast as NumPy's
access to single elements.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

import numpy as np

numba: Any
try:
    import numba
except ImportError:
    numba = None

COMPILED: Final = numba is not None
"""Whether Numba is installed."""

P = ParamSpec("P")
R = TypeVar("R")


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a `function` of numbers and arrays to run without the GIL."""
    if numba is None:
        return _interpreted(function)
    try:
        compiled: Callable[P, R] = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # no directory for a cache: read-only installation, no home directory
        compiled = numba.njit(nogil=True)(function)
    return compiled


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a small function of numbers and arrays for use in kernels."""
    if numba is None:
        return function
    compiled: Callable[P, R] = numba.njit(nogil=True, inline="always")(function)
    return compiled


def _interpreted(function: Callable[P, R]) -> Callable[P, R]:
    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        bare: Any = [each.data if isinstance(each, np.ndarray) else each for each in args]
        return function(*bare, **kwargs)

    return run


@inlined
def count_ones(word: np.uint64) -> np.int64:
    """Count the set bits; the compiler reduces this to one instruction."""
    word = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))
