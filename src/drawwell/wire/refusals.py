"""Errors on the wire: a client raises the same error as the broker.

The codes are part of the protocol (docs/protocol.md, section 6) and are never reassigned.
"""

import math
from typing import Final

from drawwell import errors
from drawwell.errors import DrawwellError, RemoteProtocolError
from drawwell.wire.frames import Refusal

REFUSAL_CODES: Final[dict[int, type[DrawwellError]]] = {
    1: errors.Starved,
    2: errors.NoHealthySource,
    3: errors.QuotaExceeded,
    4: errors.DrawRefused,
    5: errors.PermissionRefused,
    6: errors.StateUnavailable,
    7: errors.UsageError,
    8: errors.Refused,
    9: errors.SourceUnavailable,
    10: errors.SourceRejected,
    11: errors.SourceError,
    12: errors.ConfigError,
    13: errors.SinkRefused,
    14: errors.LinkUnavailable,
}
_CODES: Final = {kind: code for code, kind in REFUSAL_CODES.items()}
_ANY_OTHER: Final = _CODES[errors.LinkUnavailable]
_MAX_WAIT_US: Final = 2**64 - 1


def to_refusal(request_id: int, error: DrawwellError) -> Refusal:
    """Return a refusal with the code of the nearest error class, or 14."""
    code = next((_CODES[kind] for kind in type(error).__mro__ if kind in _CODES), _ANY_OTHER)
    wait_s = getattr(error, "retry_after_s", None)
    return Refusal(
        request_id,
        code,
        str(error),
        error.hint or "",
        None if wait_s is None else min(_MAX_WAIT_US, max(0, math.ceil(wait_s * 1e6))),
        bool(getattr(error, "estimate", False)),
    )


def to_error(refusal: Refusal) -> DrawwellError:
    """Return the error that the broker raised.

    Raises:
        RemoteProtocolError: the code is unknown.
    """
    kind = REFUSAL_CODES.get(refusal.code)
    if kind is None:
        raise RemoteProtocolError(f"the refusal has the unknown code {refusal.code}")
    hint = refusal.hint or None
    if not issubclass(kind, errors.Refused):
        return kind(refusal.message, hint=hint)
    wait_s = None if refusal.retry_after_us is None else refusal.retry_after_us / 1e6
    return kind(refusal.message, retry_after_s=wait_s, estimate=refusal.estimate, hint=hint)
