"""Faults of ours that a peer set off: they cost what he asked for, never the others what they ask for."""

import asyncio
import errno
import logging
import resource
import time
import traceback
from typing import Any, Final

_log = logging.getLogger("drawwell")
_SAY_AGAIN_S: Final = 60.0
_said_at = -_SAY_AGAIN_S


def log_fault(ended: str, error: Exception) -> None:
    """Say where in our code it happened; what the exception says stays unsaid, as it may quote a secret."""
    where = "".join(traceback.format_tb(error.__traceback__))
    _log.error(
        "%s was ended by a fault in drawwell, please report it: %s\n%s", ended, type(error).__name__, where
    )


def say_shortage(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Say once a minute that no connection can be taken (asyncio tries again each second); the rest as asyncio does."""
    global _said_at  # noqa: PLW0603 - there is one table of descriptors
    error = context.get("exception")
    if not isinstance(error, OSError) or error.errno not in {errno.EMFILE, errno.ENFILE}:
        loop.default_exception_handler(context)
    elif time.monotonic() - _said_at >= _SAY_AGAIN_S:
        _said_at = time.monotonic()
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        _log.error(
            "no more connections can be taken: all %d file descriptors are in use; raise LimitNOFILE in the unit",
            limit,
        )
