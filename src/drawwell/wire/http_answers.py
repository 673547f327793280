"""Answers of the HTTP API, and how an error becomes one: problem details (RFC 9457) with a hint.

A refusal says when to come back twice: ``Retry-After`` in whole seconds, rounded up, and ``retry_after_s`` in the
body, rounded up to the microsecond.
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
"""Any other error is for the broker's operator to mend, or mends itself: 503."""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A response. With `final` it is the last one on its connection."""

    status: int
    content_type: str
    body: bytes = field(repr=False)
    headers: tuple[tuple[str, str], ...] = ()
    final: bool = False


def text_answer(text: str) -> HttpResponse:
    """Say one line of text."""
    return HttpResponse(200, PLAIN, text.encode() + b"\n")


def json_answer(document: dict[str, Any], status: int = 200) -> HttpResponse:
    """Say a JSON object."""
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
    """Say what is wrong; `more` are further members of the document."""
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
    """Say an error of the broker's."""
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
