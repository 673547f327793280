"""Faults of ours that a peer set off: they cost what he asked for, never the others what they ask for."""

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
    """Say where in our code it happened; what the exception says stays unsaid, as it may quote a secret."""
    where = "".join(traceback.format_tb(error.__traceback__))
    _log.error(
        "%s was ended by a fault in drawwell, please report it: %s\n%s", ended, type(error).__name__, where
    )


def say_shortage(error: OSError) -> None:
    """Say once a minute that no connection can be taken."""
    global _said_at  # noqa: PLW0603 - there is one table of descriptors
    if time.monotonic() - _said_at >= _SAY_AGAIN_S:
        _said_at = time.monotonic()
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        why = (
            f"all {limit} file descriptors are in use; raise LimitNOFILE in the unit"
            if error.errno == errno.EMFILE
            else (error.strerror or type(error).__name__).lower()
        )
        _log.error("no more connections can be taken: %s", why)
