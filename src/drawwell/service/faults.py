"""Logging of our own bugs and of shortages of file descriptors.

An exception that a peer causes ends that peer's connection, never the process.
"""

import errno
import logging
import resource
import time
import traceback
from typing import Final

_log = logging.getLogger("drawwell")
_SAY_AGAIN_S: Final = 60.0
_said_at = -_SAY_AGAIN_S


def log_fault(ended: str, error: Exception) -> None:
    """Log the location of a bug, not the message, which may be secret."""
    where = "".join(traceback.format_tb(error.__traceback__))
    _log.error(
        "%s ended because of a bug in drawwell; please report it: %s\n%s", ended, type(error).__name__, where
    )


def say_shortage(error: OSError) -> None:
    """Log at most once a minute that connections cannot be accepted."""
    global _said_at  # noqa: PLW0603 - one per process, like the file descriptors
    if time.monotonic() - _said_at >= _SAY_AGAIN_S:
        _said_at = time.monotonic()
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        why = (
            f"all {limit} file descriptors are in use; raise LimitNOFILE in the unit"
            if error.errno == errno.EMFILE
            else (error.strerror or type(error).__name__).lower()
        )
        _log.error("cannot accept more connections: %s", why)
