"""Keeping what this process has in memory from core dumps and debuggers."""

import ctypes
import resource
from contextlib import suppress
from typing import Final

PR_SET_DUMPABLE: Final = 4
"""linux/prctl.h."""


def keep_memory_private() -> None:
    """Forbid core dumps, and reading by the user's other processes (prctl(2)).

    Root can still read everything. A service manager may have forbidden it already, and the call.
    """
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
