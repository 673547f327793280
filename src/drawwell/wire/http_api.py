"""The HTTP API: one table of routes, and how a request becomes what the broker is asked.

docs/http.md describes it for people, /openapi.json for programs; both are held to this table by tests.
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
"""As pollen reads from its device for each answer."""
MAX_CHALLENGE: Final = 1024
MAX_NAME: Final = 255
OBSERVE: Final = "observe"
_MAX_FIELDS: Final = 16
_SENT_BY_PROGRAMS: Final = {"POST": {"sec-fetch-mode", "user-agent"}}
"""The fetch of Node.js and PowerShell send them; a page's POST has an Origin as well."""


def read(request: HttpRequest, *, local: bool = False) -> Ask | HttpResponse:
    """Say what is asked, or answer what can be answered from the request alone.

    `local` requests did not come over TLS: a page is shown under a name of this machine only.
    """
    try:
        target = urlsplit(request.target)
        route = _ROUTES.get(target.path)
        if route is None:
            return problem(404, f"there is no {target.path[:80]}", hint=f"There are {', '.join(_ROUTES)}.")
        if request.method not in route.methods:
            allowed = ", ".join(route.methods)
            return problem(405, f"only {allowed} here", headers=(("Allow", allowed),))
        if route.draws and (marks := request.browser - _SENT_BY_PROGRAMS.get(request.method, set())):
            detail = f"a browser draws nothing, and a request with {', '.join(sorted(marks))} comes from one"
            return problem(403, detail, hint="POST it from a program, without those header fields.")
        if route.page and local and not _is_this_machine(request.host):
            return problem(403, "this page has no other name than localhost", hint="Ask http://localhost/ui.")
        return route.ask(request, _arguments(route, target.query, request.body))
    except ValueError as error:
        return problem(400, str(error), hint="See /openapi.json for what can be asked.")


def _arguments(route: Route, query: str, body: bytes) -> dict[str, Any]:
    """Read the query, and a form where one may be posted; ValueError says what is wrong."""
    fields = _fields(query)
    if "POST" in route.methods:
        fields += _fields(body.decode("latin-1"))
    known = {parameter.name: parameter for parameter in route.parameters}
    arguments: dict[str, Any] = {}
    for name, value in fields:
        if name not in known:
            raise ValueError(f"there is no parameter {name[:40]!r}; there are: {', '.join(known) or 'none'}")
        if name in arguments:
            raise ValueError(f"{name} is given twice")
        arguments[name] = known[name].read(value)
    missing = [name for name in known if known[name].required and name not in arguments]
    if missing:
        raise ValueError(f"{' and '.join(missing)} is missing")
    return arguments


def _fields(text: str) -> list[tuple[str, str]]:
    if not text.isascii():
        raise ValueError("a form has ASCII characters only")
    try:
        return parse_qsl(
            text,
            keep_blank_values=True,
            strict_parsing=bool(text),
            errors="strict",
            max_num_fields=_MAX_FIELDS,
        )
    except ValueError:
        raise ValueError("the query is not name=value&name=value") from None


# ---- what is asked


def _challenge(text: str) -> str:
    if not 1 <= len(text) <= MAX_CHALLENGE:
        raise ValueError(f"a challenge has 1 to {MAX_CHALLENGE} characters")
    return text


def _name(text: str) -> str:
    if len(text) > MAX_NAME:
        raise ValueError(f"a name has at most {MAX_NAME} characters")
    return text


def _draw(request: HttpRequest, given: Mapping[str, Any]) -> Ask | HttpResponse:
    chosen = FORMATS[given["format"]] if "format" in given else accepted(request.accept)
    if chosen is None:
        offers = ", ".join(dict.fromkeys(each.media for each in FORMATS.values()))
        return problem(406, "nothing that Accept asks for can be answered", hint=f"Accept one of {offers}.")
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
    return problem(503, status["not_ready_because"], hint="See 'drawwell doctor' on the broker's machine.")


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
    """Tell a name of this machine from one that an attacker's DNS gave its address to."""
    return urlsplit(f"//{host}").hostname in {"localhost", "127.0.0.1", "::1"}


def _openapi(_request: HttpRequest, _given: Mapping[str, Any]) -> HttpResponse:
    return json_answer(document(ROUTES))


# ---- the table

_CLASS: Final = Parameter(
    "class",
    "Full entropy from the hardware, or the consumer's own generator that is seeded from it.",
    {"type": "string", "enum": [str(each) for each in DrawClass], "default": "full"},
    one_of(*DrawClass),
)
_WAIT: Final = Parameter(
    "wait",
    "So many seconds the draw waits in line while the reservoir is short; a quota is never waited for.",
    {"type": "number", "minimum": 0, "maximum": MAX_PATIENCE_MS // 1000, "default": 0},
    seconds(MAX_PATIENCE_MS // 1000),
)
_DRAW_PARAMETERS: Final = (
    Parameter(
        "bytes",
        "How many bytes.",
        {"type": "integer", "minimum": 1, "maximum": MAX_DRAW_BYTES, "default": 32},
        whole(1, MAX_DRAW_BYTES),
    ),
    _CLASS,
    Parameter(
        "prediction_resistance",
        "1: the consumer's generator is reseeded first; that costs 48 bytes more.",
        {"type": "string", "enum": ["0", "1"], "default": "0"},
        one_of("0", "1"),
    ),
    _WAIT,
    Parameter(
        "format",
        "How the bytes are written; it goes before the header field Accept.",
        {"type": "string", "enum": list(FORMATS)},
        one_of(*FORMATS),
    ),
)
_POLLEN_PARAMETERS: Final = (
    Parameter(
        "challenge",
        "What the answer is bound to; pollinate posts it as a form.",
        {"type": "string", "minLength": 1, "maxLength": MAX_CHALLENGE},
        _challenge,
        required=True,
    ),
    _CLASS,
    _WAIT,
)
_PAGE_PARAMETERS: Final = (
    Parameter("search", "Part of the names of the consumers to show.", {"type": "string"}, _name),
    Parameter("after", "Show consumers behind this name.", {"type": "string"}, _name),
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
        "/v1/draw", "draw", "Draw bytes: they are the caller's alone, and gone from the broker.",
        ("POST", "GET"), _DRAW_MEDIA, _draw, _DRAW_PARAMETERS,
    ),
    Route(
        "/v1/receipt-key", "receiptKey", "The public key that the broker's receipts are signed with.",
        _READ, ("application/x-pem-file",), _receipt_key,
    ),
    Route(
        "/v1/status", "status", "Whether the broker is ready, and what the caller had and may have.",
        _READ, _JSON, _status,
    ),
    Route(
        "/", "pollen", "A seed for pollinate: SHA-512 of the challenge, and of the challenge and 64 fresh bytes.",
        ("POST", "GET"), _TEXT, _pollen, _POLLEN_PARAMETERS,
    ),
    Route("/healthz", "healthz", "Whether the broker runs.", _READ, _TEXT, _healthz, public=True),
    Route("/readyz", "readyz", "Whether draws can be served now.", _READ, _TEXT, _readyz, public=True),
    Route(
        "/metrics", "metrics", "The series that Prometheus reads.", _READ,
        ("text/plain", "application/openmetrics-text"), _metrics,
    ),
    Route("/ui", "ui", "The status page.", _READ, ("text/html",), _ui, _PAGE_PARAMETERS, page=True),
    Route(
        "/ui/events", "uiEvents", "The parts of the status page that changed.", ("GET",),
        ("text/event-stream",), _events, _PAGE_PARAMETERS, page=True,
    ),
    Route("/openapi.json", "openapi", "This API as an OpenAPI 3.1 document.", _READ, _JSON, _openapi, public=True),
)  # fmt: skip
_ROUTES: Final = {route.path: route for route in ROUTES}
