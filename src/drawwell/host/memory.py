"""Keep this process's memory out of core dumps, debuggers and swap."""

import ctypes
import os
import resource
from contextlib import suppress
from typing import Final

PR_SET_DUMPABLE: Final = 4
"""linux/prctl.h."""
MCL_CURRENT_FUTURE_ONFAULT: Final = 1 | 2 | 4
"""sys/mman.h; pages are locked only when they are first used."""


def keep_memory_private() -> None:
    """Forbid core dumps and access by the user's other processes.

    Root can still read everything (prctl(2)). A service manager may set the limit itself and
    forbid setrlimit(2).
    """
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def lock_memory() -> str:
    """Keep all memory of this process out of swap from now on.

    Memory is locked only without a limit: allocations beyond a limit would fail (mlockall(2)).

    Returns:
        Why memory may be swapped; "" if it is locked or this machine has no swap.
    """
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        if ctypes.CDLL(None, use_errno=True).mlockall(MCL_CURRENT_FUTURE_ONFAULT) == 0:
            return ""
        reason = os.strerror(ctypes.get_errno()).lower()
    except (OSError, ValueError):
        reason = "the limit is too low; set LimitMEMLOCK=infinity or ulimit -l unlimited"
    return f"memory is not locked and may be swapped out: {reason}" if _swaps() else ""


def _swaps(path: str = "/proc/swaps") -> bool:
    """Return whether this machine has swap (proc_swaps(5)).

    The package's units hide this file, and forbid swap themselves (MemorySwapMax=0).
    """
    try:
        with open(path, encoding="utf-8") as file:
            return len(file.readlines()) > 1
    except OSError:
        return False
