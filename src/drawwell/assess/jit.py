"""Loops that Numba compiles where it is installed, and that run as they stand where it is not.

Numba keeps what it compiled in the cache beside the source, or in the user's own cache directory, so that only
the very first run waits for it. Without Numba the same function runs in the interpreter over memoryviews,
whose elements cost a third of NumPy's: exact, and some hundred times slower.
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
"""Is Numba here?"""

P = ParamSpec("P")
R = TypeVar("R")


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile `function`, whose arguments are numbers and arrays; it lets go of the interpreter while it runs."""
    if numba is None:
        return _interpreted(function)
    try:
        compiled: Callable[P, R] = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # nowhere to keep a cache: a read-only installation without a home directory
        compiled = numba.njit(nogil=True)(function)
    return compiled


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a small function that kernels call: numbers and arrays as they come."""
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
    """Count the bits that are set: the compiler knows this for what it is, and has one instruction for it."""
    word = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))
