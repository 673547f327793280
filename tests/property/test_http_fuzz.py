"""Any HTTP input gives an answer or nothing yet, never a bug."""

from urllib.parse import urlencode

import h11
from hypothesis import given
from hypothesis import strategies as st

from drawwell.wire.http_answers import HttpResponse, text_answer
from drawwell.wire.http_api import ROUTES, read
from drawwell.wire.http_formats import FORMATS, accepted
from drawwell.wire.http_route import CallAsk, DrawAsk, EventsAsk
from drawwell.wire.http_session import MAX_BODY_BYTES, MAX_HEAD_BYTES, HttpRequest, HttpSession
from support.outgoing import taken

DATE = "Thu, 01 Jan 2026 00:00:00 GMT"
LINES = st.sampled_from(
    [
        b"GET /v1/draw HTTP/1.1\r\n", b"POST / HTTP/1.1\r\n", b"HEAD /healthz HTTP/1.0\r\n", b"Host: x\r\n",
        b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"\r\n", b"abc",
        b"3\r\nabc\r\n", b"0\r\n\r\n", b"Expect: 100-continue\r\n", b"Upgrade: h2c\r\n", b"Accept: text/*\r\n",
        b"\n", b"\x00",
    ]
)  # fmt: skip
STREAMS = st.lists(st.one_of(LINES, st.binary(max_size=40)), max_size=30).map(b"".join)
TARGETS = st.one_of(
    st.text(alphabet=[chr(code) for code in range(0x21, 0x7F)], max_size=60),
    st.builds(
        lambda path, query: f"{path}?{urlencode(query)}",
        st.sampled_from([route.path for route in ROUTES]),
        st.lists(
            st.tuples(
                st.sampled_from([each.name for route in ROUTES for each in route.parameters] + ["other"]),
                st.one_of(st.text(max_size=12), st.integers(-5, 70000).map(str), st.just("drbg")),
            ),
            max_size=6,
        ),
    ),
)


def spoken(pieces: list[bytes]) -> tuple[list[HttpRequest | HttpResponse], bool]:
    """Answer all requests; return them, and whether the connection ended."""
    session, found = HttpSession(), []
    for piece in pieces:
        if session.closing:
            break
        session.receive_data(piece)
        while not session.closing and (request := session.next_request()) is not None:
            found.append(request)
            session.answer(request if isinstance(request, HttpResponse) else text_answer("ok"), DATE)
        assert session.closing or session.unparsed_bytes <= MAX_HEAD_BYTES + MAX_BODY_BYTES + 1
    _assert_http(taken(session.outgoing), [r.method for r in found if isinstance(r, HttpRequest)])
    return found, session.closing


def _assert_http(output: bytes, methods: list[str]) -> None:
    """Check that the output starts as a response for each request."""
    assert output.count(b"HTTP/1.1 2") + output.count(b"HTTP/1.1 4") + output.count(b"HTTP/1.1 5") >= len(
        methods
    )
    assert not output or output.startswith(b"HTTP/1.1 ")


@given(STREAMS, st.lists(st.integers(1, 50), max_size=10))
def test_pieces_do_not_matter_to_http(data: bytes, sizes: list[int]) -> None:
    """Any chunks give the same requests and the same end."""
    pieces, rest = [], data
    for size in sizes:
        pieces, rest = [*pieces, rest[:size]], rest[size:]
    whole, cut = spoken([data]), spoken([*pieces, rest])

    requests = [[each for each in found if isinstance(each, HttpRequest)] for found, _ in (whole, cut)]
    assert requests[0] == requests[1]
    assert whole[1] == cut[1]


@given(st.sampled_from(["GET", "HEAD", "POST", "PUT"]), TARGETS, st.text(max_size=40), st.binary(max_size=80))
def test_any_request_asks_something_or_is_answered(
    method: str, target: str, accept: str, body: bytes
) -> None:
    """Any target, Accept and body gives a valid request or an error."""
    found = read(HttpRequest(method, target, accept, body))

    if isinstance(found, DrawAsk):
        assert method != "HEAD"
        assert 1 <= found.request.n_bytes <= 65536
        assert 0 <= found.request.patience_s <= 60
    elif not isinstance(found, CallAsk | EventsAsk):
        assert found.status in {200, 400, 404, 405, 406}
        assert found.content_type


@given(st.text(max_size=80))
def test_any_accept_chooses_or_does_not(accept: str) -> None:
    """Any text in Accept selects a known format or none."""
    assert accepted(accept) in {None, *FORMATS.values()}


@given(st.lists(st.sampled_from([b"/v1/draw", b"/?challenge=a", b"/nowhere"]), min_size=1, max_size=8))
def test_a_real_client_understands_every_answer(targets: list[bytes]) -> None:
    """h11's client parses each answer as one complete response, in order."""
    client, server = h11.Connection(h11.CLIENT), HttpSession()
    for number, target in enumerate(targets):
        for event in (h11.Request(method="GET", target=target, headers=[("Host", "x")]), h11.EndOfMessage()):
            server.receive_data(client.send(event) or b"")
        assert server.next_request() == HttpRequest("GET", target.decode(), host="x")
        server.answer(text_answer(str(number)), DATE)
        client.receive_data(taken(server.outgoing))
        response, data, end = (client.next_event() for _ in range(3))
        assert (response.status_code, data.data, type(end)) == (200, f"{number}\n".encode(), h11.EndOfMessage)
        client.start_next_cycle()
