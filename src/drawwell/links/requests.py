"""Checks and errors that links of every kind share."""

import os
import socket
from dataclasses import replace
from typing import Any, Final, Unpack

from drawwell.entropy.blocks import DrawClass, DrawOptions, DrawRequest
from drawwell.errors import DrawRefused, LinkUnavailable, UsageError
from drawwell.wire import limits
from drawwell.wire.frames import put_json

CHECK: Final = "Check that the broker runs and that its address is right (drawwell status, drawwell doctor)."
OPEN_DEADLINE_S: Final = 10.0
ANSWER_DEADLINE_S: Final = 10.0


def draw_request(n_bytes: int, draw_class: DrawClass, **options: Unpack[DrawOptions]) -> DrawRequest:
    """Build a request that the protocol can carry.

    Its patience is cut to the longest wait of one request.

    Raises:
        DrawRefused: the size is outside of the protocol's limits.
    """
    if not 1 <= n_bytes <= limits.MAX_DRAW_BYTES:
        raise DrawRefused(
            f"a draw of {n_bytes} bytes: it takes 1 to {limits.MAX_DRAW_BYTES}",
            hint="Draw several times.",
        )
    request = DrawRequest(n_bytes, draw_class, **options)
    return replace(request, patience_s=min(request.patience_s, limits.MAX_PATIENCE_MS / 1000))


def check_arguments(verb: str, args: dict[str, Any]) -> None:
    """Accept the arguments of a control verb if a frame holds them.

    Raises:
        UsageError: they are too long.
    """
    if len(put_json({"verb": verb, "args": args})) > limits.MAX_CALL_BYTES:
        raise UsageError(f"the arguments of {verb} are too long", hint="Send less at a time.")


def unreachable(broker: str, why: str) -> LinkUnavailable:
    """Build the error for a broker that does not answer."""
    return LinkUnavailable(f"cannot reach {broker}: {why}", hint=CHECK)


def broken(broker: str, error: Exception | None = None) -> LinkUnavailable:
    """Build the error for a link that ended before the answer."""
    why = f": {error.strerror or error}".lower() if isinstance(error, OSError) else ""
    return LinkUnavailable(f"the link to {broker} broke{why}", hint=CHECK)


def broke_protocol(broker: str, error: Exception) -> LinkUnavailable:
    """Build the error for a broker that broke the protocol."""
    return LinkUnavailable(f"{broker} broke the protocol: {error}", hint=CHECK)


def closed_session(broker: str, reason: str) -> LinkUnavailable:
    """Build the error for a broker that ended the session."""
    return LinkUnavailable(f"{broker} closed the session: {reason or 'no reason given'}")


def reason(error: OSError) -> str:
    """Return the system's text for `error`.

    asyncio puts its own into `strerror`.
    """
    if error.errno and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno).lower()
    return (error.strerror or str(error)).lower()
