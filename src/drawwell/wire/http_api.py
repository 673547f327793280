"""The HTTP API as a table of routes, and its requests to the broker.

docs/http.md and /openapi.json describe the API; tests compare both with this table.
"""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from drawwell.entropy.blocks import DrawClass, DrawRequest
from drawwell.observe.openmetrics import OPENMETRICS, PROMETHEUS, render
from drawwell.observe.page import POLICY, page, parts
from drawwell.wire.http_answers import HTML, HttpResponse, json_answer, problem, text_answer
from drawwell.wire.http_formats import FORMATS, accepted, pollen_answer
from drawwell.wire.http_route import (
    Ask,
    CallAsk,
    DrawAsk,
    EventsAsk,
    Parameter,
    Route,
    one_of,
    seconds,
    whole,
)
from drawwell.wire.http_session import HttpRequest
from drawwell.wire.limits import MAX_DRAW_BYTES, MAX_PATIENCE_MS
from drawwell.wire.openapi import document

POLLEN_BYTES: Final = 64
"""The number of bytes that pollen itself uses for each answer."""
MAX_CHALLENGE: Final = 1024
MAX_NAME: Final = 255
OBSERVE: Final = "observe"
_MAX_FIELDS: Final = 16
_SENT_BY_PROGRAMS: Final = {"POST": {"sec-fetch-mode", "user-agent"}}
"""Node.js's fetch and PowerShell send these too; a POST from a web page also has an Origin."""


def read(request: HttpRequest, *, local: bool = False) -> Ask | HttpResponse:
    """Parse a request; return it, or a response that does not need the broker.

    A `local` request arrived without TLS, and can open the page only under a local name.
    """
    try:
        target = urlsplit(request.target)
        route = _ROUTES.get(target.path)
        if route is None:
            return problem(
                404, f"unknown path {target.path[:80]}", hint=f"The paths are {', '.join(_ROUTES)}."
            )
        if request.method not in route.methods:
            allowed = ", ".join(route.methods)
            return problem(405, f"the method must be one of {allowed}", headers=(("Allow", allowed),))
        if route.draws and (marks := request.browser - _SENT_BY_PROGRAMS.get(request.method, set())):
            detail = f"browsers may not draw, and only browsers send {', '.join(sorted(marks))}"
            return problem(403, detail, hint="Send a POST from a program, without those header fields.")
        if route.page and local and not _is_this_machine(request.host):
            return problem(
                403, "this page is served only under the name localhost", hint="Open http://localhost/ui."
            )
        return route.ask(request, _arguments(route, target.query, request.body))
    except ValueError as error:
        return problem(400, str(error), hint="See /openapi.json for all requests.")


def _arguments(route: Route, query: str, body: bytes) -> dict[str, Any]:
    """Parse the query, and a form if allowed; raise ValueError if invalid."""
    fields = _fields(query)
    if "POST" in route.methods:
        fields += _fields(body.decode("latin-1"))
    known = {parameter.name: parameter for parameter in route.parameters}
    arguments: dict[str, Any] = {}
    for name, value in fields:
        if name not in known:
            raise ValueError(f"unknown parameter {name[:40]!r}, not one of: {', '.join(known) or 'none'}")
        if name in arguments:
            raise ValueError(f"parameter {name} is repeated")
        arguments[name] = known[name].read(value)
    missing = [name for name in known if known[name].required and name not in arguments]
    if missing:
        raise ValueError(f"missing parameter: {', '.join(missing)}")
    return arguments


def _fields(text: str) -> list[tuple[str, str]]:
    if not text.isascii():
        raise ValueError("a form must be ASCII")
    try:
        return parse_qsl(
            text,
            keep_blank_values=True,
            strict_parsing=bool(text),
            errors="strict",
            max_num_fields=_MAX_FIELDS,
        )
    except ValueError:
        raise ValueError("the query must have the form name=value&name=value") from None


# ---- requests


def _challenge(text: str) -> str:
    if not 1 <= len(text) <= MAX_CHALLENGE:
        raise ValueError(f"a challenge must have 1 to {MAX_CHALLENGE} characters, not {len(text)}")
    return text


def _name(text: str) -> str:
    if len(text) > MAX_NAME:
        raise ValueError(f"a name must have at most {MAX_NAME} characters, not {len(text)}")
    return text


def _draw(request: HttpRequest, given: Mapping[str, Any]) -> Ask | HttpResponse:
    chosen = FORMATS[given["format"]] if "format" in given else accepted(request.accept)
    if chosen is None:
        offers = ", ".join(dict.fromkeys(each.media for each in FORMATS.values()))
        return problem(406, "none of the media types in Accept is available", hint=f"Accept one of {offers}.")
    return DrawAsk(
        DrawRequest(
            given.get("bytes", 32),
            DrawClass(given.get("class", DrawClass.FULL)),
            prediction_resistance=given.get("prediction_resistance") == "1",
            receipt=chosen.receipt,
            patience_s=given.get("wait", 0.0),
        ),
        chosen.answer,
    )


def _pollen(_request: HttpRequest, given: Mapping[str, Any]) -> Ask:
    challenge = given["challenge"]
    draw_class = DrawClass(given.get("class", DrawClass.FULL))
    return DrawAsk(
        DrawRequest(POLLEN_BYTES, draw_class, patience_s=given.get("wait", 0.0)),
        lambda grant: pollen_answer(challenge, grant),
    )


def _receipt_key(_request: HttpRequest, _given: Mapping[str, Any]) -> Ask:
    return CallAsk("receipt-key", lambda result: _pem(result["public_key"]))


def _pem(text: str) -> HttpResponse:
    return HttpResponse(200, "application/x-pem-file", text.encode())


def _status(_request: HttpRequest, _given: Mapping[str, Any]) -> Ask:
    return CallAsk("status", json_answer)


def _healthz(_request: HttpRequest, _given: Mapping[str, Any]) -> HttpResponse:
    return text_answer("running")


def _readyz(_request: HttpRequest, _given: Mapping[str, Any]) -> Ask:
    return CallAsk("status", _readiness, public=True)


def _readiness(status: dict[str, Any]) -> HttpResponse:
    if status["ready"]:
        return text_answer("ready")
    return problem(503, status["not_ready_because"], hint="Run 'drawwell doctor' on the broker's machine.")


def _metrics(request: HttpRequest, _given: Mapping[str, Any]) -> Ask:
    openmetrics = "application/openmetrics-text" in request.accept
    media = OPENMETRICS if openmetrics else PROMETHEUS

    def answer(seen: dict[str, Any]) -> HttpResponse:
        text = render(seen["report"], names=seen["names"], openmetrics=openmetrics)
        return HttpResponse(200, media, text.encode())

    return CallAsk(OBSERVE, answer)


def _ui(_request: HttpRequest, given: Mapping[str, Any]) -> Ask:
    def answer(seen: dict[str, Any]) -> HttpResponse:
        text = page(seen["report"], names=seen["names"], **given)
        return HttpResponse(200, HTML, text.encode(errors="replace"), _PAGE_HEADERS)

    return CallAsk(OBSERVE, answer)


def _events(_request: HttpRequest, given: Mapping[str, Any]) -> Ask:
    return EventsAsk(OBSERVE, lambda seen: parts(seen["report"], names=seen["names"], **given))


def _is_this_machine(host: str) -> bool:
    """Return whether a host name is local, and so not an attacker's."""
    return urlsplit(f"//{host}").hostname in {"localhost", "127.0.0.1", "::1"}


def _openapi(_request: HttpRequest, _given: Mapping[str, Any]) -> HttpResponse:
    return json_answer(document(ROUTES))


# ---- the table

_CLASS: Final = Parameter(
    "class",
    "full: full-entropy bytes from the hardware. drbg: the output of the consumer's own generator.",
    {"type": "string", "enum": [str(each) for each in DrawClass], "default": "full"},
    one_of(*DrawClass),
)
_WAIT: Final = Parameter(
    "wait",
    "The longest wait in the queue, in seconds, if the reservoir is low. A draw never waits for a quota.",
    {"type": "number", "minimum": 0, "maximum": MAX_PATIENCE_MS // 1000, "default": 0},
    seconds(MAX_PATIENCE_MS // 1000),
)
_DRAW_PARAMETERS: Final = (
    Parameter(
        "bytes",
        "Number of bytes.",
        {"type": "integer", "minimum": 1, "maximum": MAX_DRAW_BYTES, "default": 32},
        whole(1, MAX_DRAW_BYTES),
    ),
    _CLASS,
    Parameter(
        "prediction_resistance",
        "1: reseed the consumer's generator first; this takes 48 more bytes.",
        {"type": "string", "enum": ["0", "1"], "default": "0"},
        one_of("0", "1"),
    ),
    _WAIT,
    Parameter(
        "format",
        "Encoding of the bytes; overrides the header field Accept.",
        {"type": "string", "enum": list(FORMATS)},
        one_of(*FORMATS),
    ),
)
_POLLEN_PARAMETERS: Final = (
    Parameter(
        "challenge",
        "The text that the answer is computed from; pollinate posts it as a form.",
        {"type": "string", "minLength": 1, "maxLength": MAX_CHALLENGE},
        _challenge,
        required=True,
    ),
    _CLASS,
    _WAIT,
)
_PAGE_PARAMETERS: Final = (
    Parameter("search", "Show only consumers with this text in their names.", {"type": "string"}, _name),
    Parameter("after", "Show only consumers after this name.", {"type": "string"}, _name),
)
_PAGE_HEADERS: Final = (
    ("Content-Security-Policy", POLICY),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
)
_DRAW_MEDIA: Final = tuple(dict.fromkeys(each.media for each in FORMATS.values()))
_READ: Final = ("GET", "HEAD")
_JSON: Final = ("application/json",)
_TEXT: Final = ("text/plain",)

ROUTES: Final = (
    Route(
        "/v1/draw", "draw", "Draw bytes. Each byte is served once, to one caller.",
        ("POST", "GET"), _DRAW_MEDIA, _draw, _DRAW_PARAMETERS,
    ),
    Route(
        "/v1/receipt-key", "receiptKey", "The public key of the broker's receipts.",
        _READ, ("application/x-pem-file",), _receipt_key,
    ),
    Route(
        "/v1/status", "status", "Whether the broker is ready, and the caller's usage and quota.",
        _READ, _JSON, _status,
    ),
    Route(
        "/", "pollen", "A seed for pollinate: SHA-512 of the challenge, then of the challenge and 64 drawn bytes.",
        ("POST", "GET"), _TEXT, _pollen, _POLLEN_PARAMETERS,
    ),
    Route("/healthz", "healthz", "Whether the broker is running.", _READ, _TEXT, _healthz, public=True),
    Route("/readyz", "readyz", "Whether draws can be served now.", _READ, _TEXT, _readyz, public=True),
    Route(
        "/metrics", "metrics", "Metrics for Prometheus.", _READ,
        ("text/plain", "application/openmetrics-text"), _metrics,
    ),
    Route("/ui", "ui", "The status page.", _READ, ("text/html",), _ui, _PAGE_PARAMETERS, page=True),
    Route(
        "/ui/events", "uiEvents", "Changed parts of the status page.", ("GET",),
        ("text/event-stream",), _events, _PAGE_PARAMETERS, page=True,
    ),
    Route("/openapi.json", "openapi", "This API as an OpenAPI 3.1 document.", _READ, _JSON, _openapi, public=True),
)  # fmt: skip
_ROUTES: Final = {route.path: route for route in ROUTES}
