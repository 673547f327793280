"""HTTP/1.1 without I/O, with h11 as the parser.

A request is parsed only after the previous one is answered. Heads and bodies are bounded.
"""

import re
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

import h11

from drawwell.wire.http_answers import HttpResponse, problem

HTTP_ALPN: Final = "http/1.1"
"""The ALPN name of HTTP/1.1 (RFC 7301, section 6)."""
MAX_HEAD_BYTES: Final = 8192
"""Limit of the request line and the header fields."""
MAX_BODY_BYTES: Final = 4096
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
_BROWSER: Final = re.compile(
    rb"(origin|referer|sec-(fetch-.*|purpose)|(x-)?purpose|x-moz):.*|user-agent:mozilla/.*", re.IGNORECASE
)
"""Header fields that only browsers add (Fetch Metadata, prefetches); pages cannot remove them.

Without Fetch Metadata, only the user agent shows that a GET of an image is from a browser.
"""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request. `target` is verbatim; `accept` joins all Accept fields.

    `browser` contains the names of the request's header fields that only browsers send.
    """

    method: str
    target: str
    accept: str = ""
    body: bytes = field(default=b"", repr=False)
    browser: frozenset[str] = frozenset()
    host: str = ""


class HttpSession:
    """The server's end of one connection."""

    def __init__(self) -> None:
        self.closing = False
        """Whether to close the connection after sending the remaining output."""
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._head: h11.Request | None = None
        self._body = bytearray()
        self.outgoing: list[bytes] = []
        """Output for the caller to send and to remove from the list."""

    def receive_data(self, data: bytes | memoryview) -> None:
        """Buffer input."""
        if data:  # for h11, b"" means EOF
            self._http.receive_data(bytes(data))

    @property
    def unparsed_bytes(self) -> int:
        """The size of input that is not part of a returned request yet."""
        return len(self._http.trailing_data[0]) + len(self._body) + (self._head is not None)

    def next_request(self) -> HttpRequest | HttpResponse | None:
        """Return the next request, the response to an invalid one, or None."""
        try:
            return self._next_request()
        except h11.RemoteProtocolError as error:
            text = str(error)
            return problem(error.error_status_hint, f"not HTTP/1.1: {text[:1].lower()}{text[1:]}", final=True)

    def answer(self, answer: HttpResponse, date: str, *, final: bool = False) -> None:
        """Answer the last request; `date` is as in RFC 9110, section 5.6.7.

        If the argument or the response is `final`, the connection is then closed.
        """
        http = self._http
        headers = [
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(answer.body))),
            ("Cache-Control", "no-store"),
            ("Date", date),
            *answer.headers,
        ]
        if answer.final or final:
            headers.append(("Connection", "close"))
        phrase = HTTPStatus(answer.status).phrase
        self._send(h11.Response(status_code=answer.status, headers=headers, reason=phrase))
        if self._head is None or self._head.method != b"HEAD":
            self._send(h11.Data(data=answer.body))
        self._send(h11.EndOfMessage())
        if http.our_state is h11.DONE and http.their_state is h11.DONE:
            http.start_next_cycle()
            self._head = None
            self._body.clear()
        else:
            self.closing = True

    def begin_events(self, date: str) -> None:
        """Start an event stream (HTML Standard, 9.2); continue with `send_event`.

        The connection accepts no further requests.
        """
        headers = [
            ("Content-Type", "text/event-stream"),
            ("Cache-Control", "no-store"),
            ("Date", date),
            ("Connection", "close"),
        ]
        self._send(h11.Response(status_code=200, headers=headers, reason="OK"))

    def send_event(self, line: str) -> None:
        """Send a one-line event; "" sends a comment to keep the stream alive."""
        text = f"data: {line}\n\n" if line else ":\n\n"
        self._send(h11.Data(data=text.encode(errors="replace")))

    def _next_request(self) -> HttpRequest | HttpResponse | None:
        if self._http.their_state is h11.IDLE and self._has_bare_lf():
            return problem(400, "not HTTP/1.1: a line of the head does not end with CR LF", final=True)
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                self._head = event
                if refused := _refused(event):
                    return refused
            elif isinstance(event, h11.Data):
                self._body += event.data
                if len(self._body) > MAX_BODY_BYTES:
                    return problem(413, f"the body must be at most {MAX_BODY_BYTES} bytes", final=True)
            elif isinstance(event, h11.EndOfMessage) and self._head:
                return _request(self._head, bytes(self._body))
            else:
                if self._http.they_are_waiting_for_100_continue:
                    self._send(h11.InformationalResponse(status_code=100, headers=[]))
                return None

    def _has_bare_lf(self) -> bool:
        """Return whether the head has a bare LF; proxies disagree on its meaning."""
        head, _, _ = self._http.trailing_data[0].partition(b"\r\n\r\n")
        return _BARE_LF.search(head) is not None

    def _send(self, event: h11.Event) -> None:
        self.outgoing.append(self._http.send(event) or b"")


def _refused(head: h11.Request) -> HttpResponse | None:
    """Refuse a long head or an ambiguous body (RFC 9112, 6.3 and 11.2)."""
    if _head_bytes(head) > MAX_HEAD_BYTES:  # h11 limits only incomplete heads
        return problem(431, f"the head must be at most {MAX_HEAD_BYTES} bytes", final=True)
    names = {name for name, _ in head.headers}
    if b"transfer-encoding" not in names:
        return None
    if b"content-length" in names:
        return problem(400, "the request has both a Content-Length and a Transfer-Encoding", final=True)
    return problem(411, "the request must have a Content-Length", final=True)


def _head_bytes(head: h11.Request) -> int:
    return len(head.target) + sum(len(name) + len(value) for name, value in head.headers)


def _request(head: h11.Request, body: bytes) -> HttpRequest:
    accept = b",".join(value for name, value in head.headers if name == b"accept")
    browser = frozenset(
        name.decode("ascii") for name, value in head.headers if _BROWSER.match(name + b":" + value)
    )
    host = next((value.decode("latin-1") for name, value in head.headers if name == b"host"), "")
    return HttpRequest(
        head.method.decode("ascii"),
        head.target.decode("ascii"),
        accept.decode("latin-1"),
        body,
        browser,
        host,
    )
