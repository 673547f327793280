"""Faults of ours that a peer set off: they cost what he asked for, never the others what they ask for."""

import logging
import traceback

_log = logging.getLogger("drawwell")


def log_fault(ended: str, error: Exception) -> None:
    """Say where in our code it happened; what the exception says stays unsaid, as it may quote a secret."""
    where = "".join(traceback.format_tb(error.__traceback__))
    _log.error(
        "%s was ended by a fault in drawwell, please report it: %s\n%s", ended, type(error).__name__, where
    )
