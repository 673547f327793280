"""HTTP/1.1 without a socket: order, responses, limits."""

import pytest

from drawwell.wire.http_answers import HttpResponse, text_answer
from drawwell.wire.http_session import MAX_BODY_BYTES, MAX_HEAD_BYTES, HttpRequest, HttpSession
from support.outgoing import taken

DATE = "Thu, 01 Jan 2026 00:00:00 GMT"


def session(data: bytes) -> HttpSession:
    made = HttpSession()
    made.receive_data(data)
    return made


def test_pipelined_requests_are_taken_one_after_the_other() -> None:
    """The second request is parsed after the answer to the first."""
    talk = session(
        b"GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\nAccept: text/plain\r\n\r\n"
    )

    assert talk.next_request() == HttpRequest("GET", "/a", host="x")
    assert talk.next_request() is None
    assert talk.unparsed_bytes
    talk.answer(text_answer("first"), DATE)
    assert talk.next_request() == HttpRequest("GET", "/b", "text/plain", host="x")
    talk.answer(text_answer("second"), DATE)
    assert not talk.closing
    assert talk.unparsed_bytes == 0
    said = taken(talk.outgoing)
    assert 0 < said.index(b"first\n") < said.index(b"second\n")


def test_body_is_read_and_belongs_to_its_request() -> None:
    """A posted body belongs only to its own request."""
    talk = session(
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET /b HTTP/1.1\r\nHost: x\r\n\r\n"
    )

    assert talk.next_request() == HttpRequest("POST", "/", body=b"abc", host="x")
    talk.answer(text_answer("ok"), DATE)
    assert talk.next_request() == HttpRequest("GET", "/b", host="x")


def test_head_is_answered_without_a_body() -> None:
    """HEAD gets the length of a GET's body, but no body."""
    talk = session(b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n")
    talk.next_request()
    talk.answer(text_answer("reply"), DATE)

    said = taken(talk.outgoing)
    assert b"Content-Length: 6\r\n" in said
    assert said.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "request_",
    [b"GET /a HTTP/1.0\r\n\r\n", b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"],
)
def test_client_that_wants_the_end_gets_it(request_: bytes) -> None:
    """HTTP/1.0 or Connection: close ends the connection with that header."""
    talk = session(request_)
    talk.next_request()
    talk.answer(text_answer("ok"), DATE)

    assert talk.closing
    assert b"Connection: close\r\n" in taken(talk.outgoing)


def test_last_answer_closes() -> None:
    """A final answer closes the connection."""
    talk = session(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
    talk.next_request()
    talk.answer(text_answer("ok"), DATE, final=True)
    assert talk.closing


def test_waiting_client_gets_100_continue() -> None:
    """A client that expects 100-continue receives it."""
    talk = session(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")

    assert talk.next_request() is None
    assert taken(talk.outgoing).startswith(b"HTTP/1.1 100 ")
    talk.receive_data(b"abc")
    assert talk.next_request() == HttpRequest("POST", "/", body=b"abc", host="x")


POST = b"POST / HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00", 400),
        (b"GET /a HTTP/1.1\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nHost: x\r\nX: " + b"x" * MAX_HEAD_BYTES, 431),
        (b"GET /a HTTP/1.1\r\nHost: x\r\nX: " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * MAX_HEAD_BYTES + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
        (POST + b"Content-Length: 4097\r\n\r\n" + b"x" * (MAX_BODY_BYTES + 1), 413),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 411),
        (POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\nHost: x\n\n", 400),
        (b"GET /a HTTP/1.1\r\nHost: x\nX: y\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nHost: x\r\n\n", 400),
        (b"GET /a HTTP/1.1\n", 400),
        (POST + b"Content-Length: 1\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    ],
)
def test_what_is_no_request_is_answered_and_ends_it(data: bytes, status: int) -> None:
    """A violation or an excess gets a response that closes the connection."""
    talk = session(data)
    answer = talk.next_request()

    assert isinstance(answer, HttpResponse)
    assert answer.status == status
    talk.answer(answer, DATE)
    assert talk.closing
    assert taken(talk.outgoing).startswith(b"HTTP/1.1 %d " % status)


def test_a_bare_lf_is_found_in_every_head_and_in_no_body() -> None:
    """A form can have any line endings; the next head is checked again."""
    talk = session(
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\na\nbGET /b HTTP/1.1\nHost: x\r\n\r\n"
    )
    assert talk.next_request() == HttpRequest("POST", "/", body=b"a\nb", host="x")
    talk.answer(text_answer("ok"), DATE)
    refused = talk.next_request()
    assert isinstance(refused, HttpResponse)
    assert (refused.status, refused.final) == (400, True)


def test_what_follows_a_request_with_two_lengths_is_never_a_request() -> None:
    """The connection closes, so that no request is smuggled past a proxy."""
    talk = session(
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    refused = talk.next_request()
    assert isinstance(refused, HttpResponse)
    talk.answer(refused, DATE)
    assert talk.closing
    assert b"Connection: close\r\n" in taken(talk.outgoing)


@pytest.mark.parametrize(
    "name",
    [b"Origin", b"Referer", b"Sec-Fetch-Site", b"sec-fetch-dest", b"Sec-Purpose", b"Purpose", b"X-Moz"],
)
def test_what_only_a_browser_sends_is_recorded(name: bytes) -> None:
    """The request lists its header fields from browsers and prefetches."""
    asked = session(b"GET /a HTTP/1.1\r\nHost: x\r\n" + name + b": x\r\n\r\n").next_request()
    assert isinstance(asked, HttpRequest)
    assert asked.browser == {name.decode().lower()}


@pytest.mark.parametrize(
    ("agent", "marks"), [(b"Mozilla/5.0 (Macintosh)", {"user-agent"}), (b"curl/8.5.0", set())]
)
def test_a_browser_is_known_by_its_name(agent: bytes, marks: set[str]) -> None:
    """Without Fetch Metadata and a referrer, only the name marks a browser."""
    asked = session(b"GET /a HTTP/1.1\r\nHost: x\r\nUser-Agent: " + agent + b"\r\n\r\n").next_request()
    assert isinstance(asked, HttpRequest)
    assert asked.browser == marks
