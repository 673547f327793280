"""Keep this process's memory out of core dumps, debuggers and swap."""

import ctypes
import os
import resource
from contextlib import suppress
from typing import Final

PR_SET_DUMPABLE: Final = 4
"""linux/prctl.h."""
MCL_CURRENT_FUTURE_ONFAULT: Final = 1 | 2 | 4
"""sys/mman.h; pages that are never used stay unlocked."""


def keep_memory_private() -> None:
    """Forbid core dumps, and access by other processes of the user.

    Root can still read everything (prctl(2)). A service manager may set the limit itself, and
    forbid the call.
    """
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def lock_memory() -> str:
    """Keep all memory of this process out of swap, from now on.

    Only without a limit: beyond one, the process could allocate no more memory (mlockall(2)).

    Returns:
        Why bytes may be swapped out; "" where they are not, or this machine has no swap.
    """
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        if ctypes.CDLL(None, use_errno=True).mlockall(MCL_CURRENT_FUTURE_ONFAULT) == 0:
            return ""
        reason = os.strerror(ctypes.get_errno()).lower()
    except (OSError, ValueError):
        reason = "its limit is too low, set LimitMEMLOCK=infinity or ulimit -l unlimited"
    return f"memory is not locked and may be swapped out: {reason}" if _swaps() else ""


def _swaps(path: str = "/proc/swaps") -> bool:
    """Return whether this machine has swap (proc_swaps(5)).

    The units of the package hide that file, and forbid swap themselves (MemorySwapMax=0).
    """
    try:
        with open(path, encoding="utf-8") as file:
            return len(file.readlines()) > 1
    except OSError:
        return False
