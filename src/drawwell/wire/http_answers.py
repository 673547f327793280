"""Responses of the HTTP API; errors are problem details (RFC 9457).

A refusal contains the time until a retry twice: ``Retry-After`` in whole seconds, rounded up,
and ``retry_after_s`` in the body, rounded up to a microsecond.
"""

import json
import math
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from drawwell import errors
from drawwell.errors import DrawwellError

PROBLEM: Final = "application/problem+json"
JSON: Final = "application/json"
HTML: Final = "text/html; charset=utf-8"
PLAIN: Final = "text/plain; charset=utf-8"
_STATUS: Final[tuple[tuple[type[DrawwellError], int], ...]] = (
    (errors.UsageError, 400),
    (errors.DrawRefused, 400),
    (errors.PermissionRefused, 403),
    (errors.QuotaExceeded, 429),
)
"""The HTTP status of each error. Other errors are the broker's own, or temporary: 503."""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A response; if `final`, the last one on its connection."""

    status: int
    content_type: str
    body: bytes = field(repr=False)
    headers: tuple[tuple[str, str], ...] = ()
    final: bool = False


def text_answer(text: str) -> HttpResponse:
    """Return a response with one line of text."""
    return HttpResponse(200, PLAIN, text.encode() + b"\n")


def json_answer(document: dict[str, Any], status: int = 200) -> HttpResponse:
    """Return a response with a JSON object."""
    return HttpResponse(status, JSON, _json(document))


def problem(
    status: int,
    detail: str,
    *,
    hint: str | None = None,
    headers: tuple[tuple[str, str], ...] = (),
    final: bool = False,
    **more: Any,
) -> HttpResponse:
    """Return a response with a problem; `more` are additional members."""
    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        **({"hint": hint} if hint else {}),
        **more,
    }
    return HttpResponse(status, PROBLEM, _json(document), headers, final)


def refusal(error: DrawwellError, *, final: bool = False) -> HttpResponse:
    """Return a response for a broker's error."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 503)
    more: dict[str, Any] = {"kind": type(error).__name__}
    headers: tuple[tuple[str, str], ...] = ()
    wait_s = error.retry_after_s if isinstance(error, errors.Refused) else None
    if wait_s is not None:
        wait_us = max(0, math.ceil(wait_s * 1e6))
        more |= {"retry_after_s": wait_us / 1e6, "estimate": getattr(error, "estimate", False)}
        headers = (("Retry-After", str(-(-wait_us // 1_000_000))),)
    return problem(status, str(error), hint=error.hint, headers=headers, final=final, **more)


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode() + b"\n"
