"""The HTTP API as an OpenAPI 3.1 document, derived from its routes."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final

from drawwell.wire.http_answers import JSON, PROBLEM
from drawwell.wire.http_route import Route

VERSION: Final = "1"
_TEXT: Final = {"type": "string"}
_SECURITY: Final = "clientCertificate"
_DRAWN_SCHEMA: Final = {
    "type": "object",
    "required": ["bytes", "class", "serial", "data", "receipt", "receipt_key"],
    "properties": {
        "bytes": {"type": "integer"},
        "class": _TEXT,
        "serial": {"type": "integer", "description": "Unique within this broker."},
        "data": {"type": "string", "contentEncoding": "base64"},
        "receipt": {"type": "string", "description": "A signed line for 'drawwell receipt verify'."},
        "receipt_key": {
            "type": "string",
            "contentEncoding": "base64",
            "description": "The key of the receipt's HMAC.",
        },
    },
}
_PROBLEM_SCHEMA: Final = {
    "type": "object",
    "description": "Problem details (RFC 9457).",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": _TEXT,
        "title": _TEXT,
        "status": {"type": "integer"},
        "detail": _TEXT,
        "hint": {"type": "string", "description": "What to do next."},
        "kind": {"type": "string", "description": "The error's name in the drawwell protocol."},
        "retry_after_s": {"type": "number", "description": "Seconds until the same request can succeed."},
        "estimate": {"type": "boolean", "description": "Whether retry_after_s is only an estimate."},
    },
}
_RETRY: Final = {
    "Retry-After": {
        "description": "Whole seconds, rounded up; retry_after_s is more precise.",
        "schema": {"type": "integer"},
    }
}
_MARKS: Final = {
    "Drawwell-Serial": {"description": "The grant's serial number.", "schema": {"type": "integer"}},
    "Drawwell-Class": {"description": "The class of the bytes.", "schema": _TEXT},
}
_PROBLEMS: Final = {
    400: "The request is invalid, or can never be granted.",
    403: "The caller is not a consumer, lacks the permission, or is a browser trying to draw.",
    405: "The method is not allowed.",
    406: "None of the media types in Accept is available.",
    411: "The body has no Content-Length.",
    413: "The body is too long.",
    429: "The caller's rate or quota is used up; nothing was charged.",
    431: "The head of the request is too long.",
    503: "The reservoir is low, or too few sources are healthy; nothing was charged.",
}


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """Return the OpenAPI document for `routes`."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "drawwell",
            "version": VERSION,
            "description": "True random bytes, each served once. The caller is identified by a client certificate "
            "over TLS, and by the kernel on the Unix socket.",
        },
        "servers": [{"url": "/"}],
        "security": [{_SECURITY: []}],
        "paths": {route.path: _path(route) for route in routes},
        "components": {
            "schemas": {"Drawn": _DRAWN_SCHEMA, "Problem": _PROBLEM_SCHEMA},
            "securitySchemes": {
                _SECURITY: {"type": "mutualTLS", "description": "The certificate that 'drawwell join' gets."}
            },
        },
    }


def statuses(route: Route) -> tuple[int, ...]:
    """Return a route's possible HTTP statuses other than 200."""
    found = [400, 405, 411, 413, 431]
    if not route.public:
        found += [403, 503]
    if route.path == "/readyz":
        found.append(503)
    if route.draws:
        found.append(429)
    if len(route.media) > 1:
        found.append(406)
    return tuple(sorted(found))


def _path(route: Route) -> dict[str, Any]:
    return {method.lower(): _operation(route, method) for method in route.methods}


def _operation(route: Route, method: str) -> dict[str, Any]:
    form = method == "POST"
    name = route.name if method == "GET" else f"{route.name}{method.title()}"
    operation: dict[str, Any] = {"operationId": name, "summary": route.what}
    if route.public:
        operation["security"] = []
    operation["parameters"] = [
        {
            "name": each.name, "in": "query", "required": each.required, "description": each.what,
            "schema": each.schema,
        }
        for each in route.parameters
        if not (form and each.required)
    ]  # fmt: skip
    if form:
        operation["requestBody"] = _form(route)
    operation["responses"] = {"200": _success(route, method)} | {
        str(status): _failure(status) for status in statuses(route)
    }
    return operation


def _form(route: Route) -> dict[str, Any]:
    required = [each.name for each in route.parameters if each.required]
    schema = {
        "type": "object",
        "required": required,
        "properties": {each.name: each.schema for each in route.parameters},
    }
    return {"required": bool(required), "content": {"application/x-www-form-urlencoded": {"schema": schema}}}


def _success(route: Route, method: str) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": route.what}
    if method != "HEAD":
        drawn = {"$ref": "#/components/schemas/Drawn"}
        answer["content"] = {
            media: {"schema": drawn} if route.draws and media == JSON else {} for media in route.media
        }
    if route.draws:
        answer["headers"] = _MARKS
    return answer


def _failure(status: int) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "description": f"{HTTPStatus(status).phrase}: {_PROBLEMS[status]}",
        "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    if status in {429, 503}:
        answer["headers"] = _RETRY
    return answer
