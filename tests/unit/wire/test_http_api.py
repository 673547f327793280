"""The HTTP API without sockets: requests, responses, errors, OpenAPI."""

import base64
import hashlib
import json
from dataclasses import replace

import pytest

from drawwell import errors
from drawwell.entropy.blocks import DrawClass, Grant
from drawwell.wire.http_answers import HttpResponse, refusal
from drawwell.wire.http_api import ROUTES, read
from drawwell.wire.http_formats import FORMATS, accepted
from drawwell.wire.http_route import CallAsk, DrawAsk
from drawwell.wire.http_session import HttpRequest
from drawwell.wire.openapi import document, statuses

GRANT = Grant(b"\x00\xff\x10", 7, DrawClass.FULL, b"a receipt", b"k" * 32)


def get(target: str, *, method: str = "GET", accept: str = "", body: bytes = b""):
    return read(HttpRequest(method, target, accept, body))


def drawn(target: str, **how) -> DrawAsk:
    ask = get(target, **how)
    assert isinstance(ask, DrawAsk), ask
    return ask


def problem_of(answer) -> dict:
    assert isinstance(answer, HttpResponse)
    assert answer.content_type == "application/problem+json"
    found = json.loads(answer.body)
    assert found["status"] == answer.status
    return found


# ---- requests


def test_draw_without_parameters_is_32_bytes_of_full_entropy() -> None:
    """The defaults are those of the command line, without waiting."""
    ask = drawn("/v1/draw")
    assert (ask.request.n_bytes, ask.request.draw_class, ask.request.patience_s) == (32, DrawClass.FULL, 0.0)
    assert (ask.request.prediction_resistance, ask.request.receipt) == (False, False)


def test_every_parameter_of_a_draw_is_used() -> None:
    """Size, class, prediction resistance, patience and format are passed on."""
    ask = drawn("/v1/draw?bytes=65536&class=drbg&prediction_resistance=1&wait=2.5&format=json")
    assert (ask.request.n_bytes, ask.request.draw_class, ask.request.patience_s) == (
        65536,
        DrawClass.DRBG,
        2.5,
    )
    assert (ask.request.prediction_resistance, ask.request.receipt) == (True, True)


def test_absolute_target_is_understood() -> None:
    """A target with scheme and host is accepted (RFC 9112, section 3.2.2)."""
    assert drawn("http://well.example/v1/draw?bytes=5").request.n_bytes == 5


@pytest.mark.parametrize(
    "query",
    [
        "bytes=0", "bytes=65537", "bytes=-1", "bytes=1e3", "bytes=", "bytes=٣", "bytes=4KiB", "class=best",
        "class=FULL", "wait=61", "wait=-1", "wait=nan", "wait=1e9", "prediction_resistance=yes", "format=xml",
        "bytes=1&bytes=1", "size=3", "bytes", "bytes=1;class=full", "%ff=1", "=", "&", "x=1&" * 40,
    ],
)  # fmt: skip
def test_bad_query_is_refused_with_a_hint(query: str) -> None:
    """A bad parameter gets 400 and a hint, and does not reach the broker."""
    found = problem_of(get(f"/v1/draw?{query}"))
    assert found["status"] == 400
    assert found["detail"]
    assert "/openapi.json" in found["hint"]


@pytest.mark.parametrize("target", ["/v1/draw/", "/v2/draw", "/V1/DRAW", "*", "//v1/draw", "/v1%2fdraw", ""])
def test_unknown_path_is_404_and_names_those_there_are(target: str) -> None:
    """The response lists the known paths."""
    found = problem_of(get(target))
    assert found["status"] == 404
    assert "/v1/draw" in found["hint"]


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "OPTIONS", "CONNECT", "get"])
def test_nothing_but_post_and_get_draws(method: str) -> None:
    """HEAD and other methods are refused; the allowed ones are listed."""
    answer = get("/v1/draw", method=method)
    assert problem_of(answer)["status"] == 405
    assert ("Allow", "POST, GET") in answer.headers


def test_a_posted_form_asks_what_a_query_asks() -> None:
    """Parameters can be in the form or the query, but not in both."""
    ask = drawn("/v1/draw?wait=2", method="POST", body=b"bytes=48&class=drbg")
    assert (ask.request.n_bytes, ask.request.draw_class, ask.request.patience_s) == (48, DrawClass.DRBG, 2.0)
    assert problem_of(get("/v1/draw?bytes=1", method="POST", body=b"bytes=2"))["status"] == 400


@pytest.mark.parametrize("route", [each for each in ROUTES if each.draws], ids=lambda route: route.path)
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("field", ["origin", "referer", "sec-fetch-site", "sec-purpose", "purpose", "x-moz"])
def test_no_route_that_draws_is_for_browsers(route, method: str, field: str) -> None:
    """A web page or a prefetch cannot draw, with any method."""
    request = HttpRequest(method, f"{route.path}?challenge=a", browser=frozenset({field}))
    assert problem_of(read(request))["status"] == 403
    assert not isinstance(read(replace(request, target="/healthz")), DrawAsk)


def test_the_fetch_of_a_program_may_draw_by_post() -> None:
    """Node.js and PowerShell send fields of browsers, and may use POST."""
    mode = frozenset({"sec-fetch-mode", "user-agent"})
    assert isinstance(read(HttpRequest("POST", "/v1/draw", browser=mode)), DrawAsk)
    assert problem_of(read(HttpRequest("GET", "/v1/draw", browser=mode)))["status"] == 403


def test_control_verbs_are_the_callers_own() -> None:
    """Key and status are for the caller; only readiness needs no identity."""
    asks = {path: get(path) for path in ("/v1/receipt-key", "/v1/status", "/readyz")}
    assert {path: (ask.verb, ask.public) for path, ask in asks.items() if isinstance(ask, CallAsk)} == {
        "/v1/receipt-key": ("receipt-key", False),
        "/v1/status": ("status", False),
        "/readyz": ("status", True),
    }


def test_readiness_is_a_status_code() -> None:
    """Ready is 200; otherwise 503 with the reason."""
    ask = get("/readyz")
    assert ask.answer({"ready": True, "not_ready_because": ""}).status == 200
    found = problem_of(ask.answer({"ready": False, "not_ready_because": "0 of 1 sources healthy"}))
    assert (found["status"], found["detail"]) == (503, "0 of 1 sources healthy")


# ---- formats


@pytest.mark.parametrize(
    ("accept", "name"),
    [
        ("", "raw"), ("*/*", "raw"), ("application/*", "raw"), ("text/*", "hex"), ("text/plain", "hex"),
        ("text/plain;format=hex", "hex"), ("text/plain; format=base64", "base64"), ("TEXT/PLAIN", "hex"),
        ("application/json", "json"), ("application/json;q=0.5, text/plain;q=0.6", "hex"),
        ("application/octet-stream;q=0, */*;q=0.1", "hex"), ("application/json, */*;q=0.1", "json"),
        ("application/json;q=2", None), ("image/png", None), ("*/*;q=0", None), (",;=,", None),
        ("text/html, application/json;q=0.9", "json"),
    ],
)  # fmt: skip
def test_accept_chooses_the_format(accept: str, name: str | None) -> None:
    """The best valid range wins, by quality and then by our order."""
    found = accepted(accept)
    assert (found.name if found else None) == name


def test_nothing_acceptable_is_406() -> None:
    """If no format fits, the formats are listed; the query has priority."""
    assert "application/json" in problem_of(get("/v1/draw", accept="image/png"))["hint"]
    assert get("/v1/draw", accept="image/png").status == 406
    assert drawn("/v1/draw?format=hex", accept="image/png")


def test_formats_hold_the_same_bytes() -> None:
    """All formats contain the same bytes, serial number and class."""
    answers = {name: each.answer(GRANT) for name, each in FORMATS.items()}
    in_json = json.loads(answers["json"].body)

    assert answers["raw"].body == GRANT.data
    assert bytes.fromhex(answers["hex"].body.decode()) == GRANT.data
    assert base64.b64decode(answers["base64"].body) == GRANT.data
    assert base64.b64decode(in_json["data"]) == GRANT.data
    assert (in_json["receipt"], base64.b64decode(in_json["receipt_key"])) == ("a receipt", GRANT.receipt_key)
    assert all(("Drawwell-Serial", "7") in answer.headers for answer in answers.values())
    assert all(("Drawwell-Class", "full") in answer.headers for answer in answers.values())


def test_answers_show_no_bytes() -> None:
    """The repr of a response or request does not contain its body."""
    assert "00ff10" not in repr(FORMATS["hex"].answer(GRANT))
    assert "challenge" not in repr(HttpRequest("POST", "/", body=b"challenge=abc"))


# ---- pollinate


@pytest.mark.parametrize("how", [{"body": b"challenge=abc", "method": "POST"}, {"query": "?challenge=abc"}])
def test_pollen_answers_as_pollen_does(how: dict) -> None:
    """Line 1 is SHA-512 of the challenge, line 2 of challenge and 64 bytes."""
    ask = drawn("/" + how.pop("query", ""), **how)
    assert (ask.request.n_bytes, ask.request.draw_class) == (64, DrawClass.FULL)
    answer = ask.answer(GRANT)
    proof, seed = answer.body.decode().splitlines()
    assert proof == hashlib.sha512(b"abc").hexdigest()
    assert seed == hashlib.sha512(b"abc" + GRANT.data).hexdigest()


@pytest.mark.parametrize(
    "body", [b"", b"challenge=", b"challenge=" + b"x" * 1025, b"challenge=\xff", b"x", b"y=1"]
)
def test_bad_challenge_is_refused(body: bytes) -> None:
    """An empty, endless or malformed challenge gets 400."""
    assert problem_of(get("/", method="POST", body=body))["status"] == 400


# ---- errors


@pytest.mark.parametrize(
    ("error", "status", "after"),
    [
        (errors.QuotaExceeded("spent", retry_after_s=1.2345678), 429, ("2", 1.234568)),
        (errors.QuotaExceeded("spent", retry_after_s=60.0), 429, ("60", 60.0)),
        (errors.Starved("short", retry_after_s=0.02, estimate=True), 503, ("1", 0.02)),
        (errors.Starved("short"), 503, None),
        (errors.NoHealthySource("none"), 503, None),
        (errors.StateUnavailable("full"), 503, None),
        (errors.DrawRefused("class"), 400, None),
        (errors.UsageError("verb"), 400, None),
        (errors.PermissionRefused("revoked", hint="Ask again."), 403, None),
    ],
)
def test_error_has_its_status_and_a_true_time(error, status: int, after: tuple | None) -> None:
    """Each error has one status, and a time to retry that is never too early."""
    answer = refusal(error)
    found = problem_of(answer)

    assert answer.status == status
    assert (found["detail"], found["kind"]) == (str(error), type(error).__name__)
    assert found.get("hint") == error.hint
    assert dict(answer.headers).get("Retry-After") == (after and after[0])
    assert found.get("retry_after_s") == (after and after[1])


# ---- the document


def test_document_has_every_route_and_no_other() -> None:
    """Paths, methods, parameters and media types match the table."""
    described = document(ROUTES)["paths"]
    assert {path: set(operations) for path, operations in described.items()} == {
        route.path: {method.lower() for method in route.methods} for route in ROUTES
    }
    for route in ROUTES:
        first = described[route.path]["get"]
        if "POST" in route.methods:
            form = described[route.path]["post"]["requestBody"]["content"][
                "application/x-www-form-urlencoded"
            ]
            assert list(form["schema"]["properties"]) == [each.name for each in route.parameters]
        assert [each["name"] for each in first["parameters"]] == [each.name for each in route.parameters]
        assert set(first["responses"]["200"]["content"]) == set(route.media)
    names = [each["operationId"] for operations in described.values() for each in operations.values()]
    assert len(names) == len(set(names))


def test_document_is_answered() -> None:
    """/openapi.json returns the document as JSON."""
    answer = get("/openapi.json")
    assert answer.content_type == "application/json"
    assert json.loads(answer.body) == json.loads(json.dumps(document(ROUTES)))
    assert json.loads(answer.body)["openapi"] == "3.1.0"


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_document_has_the_bounds_that_are_kept(route) -> None:
    """Schemas match the accepted values; defaults are within them."""
    for parameter in route.parameters:
        schema = parameter.schema
        for value in (
            *schema.get("enum", ()),
            schema.get("minimum"),
            schema.get("maximum"),
            schema.get("default"),
        ):
            if value is not None:
                parameter.read(str(value))
        for value in [] if "maximum" not in schema else [schema["minimum"] - 1, schema["maximum"] + 1]:
            with pytest.raises(ValueError, match="is not a"):
                parameter.read(str(value))


def test_every_status_that_can_be_answered_is_described() -> None:
    """The document lists the statuses of errors, parser and routes."""
    described = set(statuses(next(route for route in ROUTES if route.path == "/v1/draw")))
    assert {400, 403, 405, 406, 411, 413, 429, 431, 503} == described
