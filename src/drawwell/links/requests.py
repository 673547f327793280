"""Checks and errors that are common to all links."""

import os
import socket
from dataclasses import replace
from typing import Any, Final, Unpack

from drawwell.entropy.blocks import DrawClass, DrawOptions, DrawRequest
from drawwell.errors import DrawRefused, LinkUnavailable, Unreachable, UsageError
from drawwell.wire import limits
from drawwell.wire.frames import put_json

CHECK: Final = "Check the address. On the broker's machine, 'drawwell doctor' shows whether the broker runs."
OPEN_DEADLINE_S: Final = 10.0
ANSWER_DEADLINE_S: Final = 10.0


def draw_request(n_bytes: int, draw_class: DrawClass, **options: Unpack[DrawOptions]) -> DrawRequest:
    """Create a draw request within the protocol's limits.

    A longer patience is reduced to the maximum wait of one request.

    Raises:
        DrawRefused: the size is beyond the protocol's limits.
    """
    if not 1 <= n_bytes <= limits.MAX_DRAW_BYTES:
        raise DrawRefused(
            f"a draw must be 1 to {limits.MAX_DRAW_BYTES} bytes, not {n_bytes}",
            hint="Draw in several pieces.",
        )
    request = DrawRequest(n_bytes, draw_class, **options)
    return replace(request, patience_s=min(request.patience_s, limits.MAX_PATIENCE_MS / 1000))


def check_arguments(verb: str, args: dict[str, Any]) -> None:
    """Check that a control verb and its arguments fit in a frame.

    Raises:
        UsageError: the arguments are too long.
    """
    if len(put_json({"verb": verb, "args": args})) > limits.MAX_CALL_BYTES:
        raise UsageError(f"the arguments of {verb} are too long", hint="Shorten the arguments.")


def unreachable(broker: str, why: str) -> Unreachable:
    """Create the error for a broker that cannot be connected to."""
    return Unreachable(f"cannot reach {broker}: {why}", hint=CHECK)


def unanswered(broker: str, deadline_s: float) -> LinkUnavailable:
    """Create the error for a request that was not answered in time."""
    return LinkUnavailable(f"cannot reach {broker}: no answer within {deadline_s:g} s", hint=CHECK)


def broken(broker: str, error: Exception | None = None) -> LinkUnavailable:
    """Create the error for a link that was lost before the answer."""
    why = f": {error.strerror or error}".lower() if isinstance(error, OSError) else ""
    return LinkUnavailable(f"the connection to {broker} was lost{why}", hint=CHECK)


def broke_protocol(broker: str, error: Exception) -> LinkUnavailable:
    """Create the error for a broker that violated the protocol."""
    return LinkUnavailable(f"{broker} violated the protocol: {error}", hint=CHECK)


def closed_session(broker: str, reason: str) -> LinkUnavailable:
    """Create the error for a broker that closed the session."""
    return LinkUnavailable(f"{broker} closed the session: {reason or 'no reason given'}")


def reason(error: OSError) -> str:
    """Return the system's text for `error`.

    asyncio sets its own text in `strerror`.
    """
    if error.errno and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno).lower()
    return (error.strerror or str(error)).lower()
