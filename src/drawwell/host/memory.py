"""Keep the memory of this process out of core dumps and debuggers."""

import ctypes
import resource
from contextlib import suppress
from typing import Final

PR_SET_DUMPABLE: Final = 4
"""linux/prctl.h."""


def keep_memory_private() -> None:
    """Forbid core dumps, and access by other processes of the user.

    Root can still read everything (prctl(2)). A service manager may set the limit itself, and
    forbid the call.
    """
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
