"""HTTP/1.1 without a socket: bytes in, requests out; answers in, bytes out. The grammar is h11's.

One request at a time: the next is looked at when the one before it has its answer. Heads and bodies are bounded.
"""

import re
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

import h11

from drawwell.wire.http_answers import HttpResponse, problem

HTTP_ALPN: Final = "http/1.1"
"""RFC 7301, section 6."""
MAX_HEAD_BYTES: Final = 8192
"""Request line and header fields."""
MAX_BODY_BYTES: Final = 4096
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
_BROWSER: Final = re.compile(
    rb"(origin|referer|sec-(fetch-.*|purpose)|(x-)?purpose|x-moz):.*|user-agent:mozilla/.*", re.IGNORECASE
)
"""Header fields that browsers add on their own (Fetch Metadata, prefetches) and a page cannot leave out.

Browsers without Fetch Metadata show no more than their name in an image's GET.
"""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What was asked. `target` is as it was written; `accept` joins all Accept fields.

    `browser` has the names of the header fields that only browsers send.
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
        """Nothing more is said: send what is left and close."""
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._head: h11.Request | None = None
        self._body = bytearray()
        self._outgoing: list[bytes] = []

    def receive_data(self, data: bytes | memoryview) -> None:
        """Take bytes from the peer."""
        if data:  # to h11 nothing is the end
            self._http.receive_data(bytes(data))

    @property
    def unparsed_bytes(self) -> int:
        """How much was received that is in no request yet."""
        return len(self._http.trailing_data[0]) + len(self._body) + (self._head is not None)

    def next_request(self) -> HttpRequest | HttpResponse | None:
        """Return the next whole request; what to answer when it is none; None when there is none yet."""
        try:
            return self._next_request()
        except h11.RemoteProtocolError as error:
            words = str(error)
            return problem(
                error.error_status_hint, f"not HTTP/1.1: {words[:1].lower()}{words[1:]}", final=True
            )

    def answer(self, answer: HttpResponse, date: str, *, final: bool = False) -> None:
        """Answer the request that was returned last; `date` is in the form of RFC 9110, section 5.6.7.

        With `final`, or where the answer says so, it is the last.
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
        """Answer with an event stream (HTML Standard, 9.2), which `send_event` goes on with.

        No other request is answered on this connection.
        """
        headers = [
            ("Content-Type", "text/event-stream"),
            ("Cache-Control", "no-store"),
            ("Date", date),
            ("Connection", "close"),
        ]
        self._send(h11.Response(status_code=200, headers=headers, reason="OK"))

    def send_event(self, line: str) -> None:
        """Send one event of one line; "" is a comment that keeps the connection open."""
        text = f"data: {line}\n\n" if line else ":\n\n"
        self._send(h11.Data(data=text.encode(errors="replace")))

    def data_to_send(self) -> bytes:
        """Take the bytes that must go to the peer, b"" for none."""
        data = b"".join(self._outgoing)
        self._outgoing.clear()
        return data

    @property
    def outgoing_bytes(self) -> int:
        """How many bytes must go to the peer."""
        return sum(map(len, self._outgoing))

    def _next_request(self) -> HttpRequest | HttpResponse | None:
        if self._http.their_state is h11.IDLE and self._has_bare_lf():
            return problem(400, "not HTTP/1.1: a line of the head ends without CR", final=True)
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                self._head = event
                if refused := _refused(event):
                    return refused
            elif isinstance(event, h11.Data):
                self._body += event.data
                if len(self._body) > MAX_BODY_BYTES:
                    return problem(413, f"a body is {MAX_BODY_BYTES} bytes at most", final=True)
            elif isinstance(event, h11.EndOfMessage) and self._head:
                return _request(self._head, bytes(self._body))
            else:
                if self._http.they_are_waiting_for_100_continue:
                    self._send(h11.InformationalResponse(status_code=100, headers=[]))
                return None

    def _has_bare_lf(self) -> bool:
        """Look where h11 does not: a proxy may see other lines, and so another request, than we would."""
        head, _, _ = self._http.trailing_data[0].partition(b"\r\n\r\n")
        return _BARE_LF.search(head) is not None

    def _send(self, event: h11.Event) -> None:
        self._outgoing.append(self._http.send(event) or b"")


def _refused(head: h11.Request) -> HttpResponse | None:
    """Refuse a head that is too long, or whose body another program may measure otherwise (RFC 9112, 6.3 and 11.2)."""
    if _head_bytes(head) > MAX_HEAD_BYTES:  # h11 bounds only one that is not yet whole
        return problem(431, f"a head is {MAX_HEAD_BYTES} bytes at most", final=True)
    names = {name for name, _ in head.headers}
    if b"transfer-encoding" not in names:
        return None
    if b"content-length" in names:
        return problem(400, "a body has a Content-Length or a Transfer-Encoding, not both", final=True)
    return problem(411, "a body needs a Content-Length", final=True)


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
