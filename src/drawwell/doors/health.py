"""``/healthz`` and ``/readyz`` over HTTP/1.1, without a certificate: on a Unix socket or on loopback, nowhere else.

One request, one answer, closed. GET and HEAD; the request's head is bounded, a body is not read.
"""

import json
from collections.abc import Callable
from typing import Final

from drawwell.doors.connection import Connection
from drawwell.doors.door import Limits
from drawwell.doors.local import LocalDoor

MAX_HEAD_BYTES: Final = 4096
_REASONS: Final = {
    200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed",
    431: "Request Header Fields Too Large", 503: "Service Unavailable",
}  # fmt: skip
_LIMITS: Final = Limits(handshake_deadline_s=5.0, max_half_open=32)


class HealthDoor(LocalDoor):
    """Answer probes.

    Args:
        where: A socket file (it has a slash), or a loopback ``host:port``.
        ready: Says whether draws can be served now, and why not.
        mode: Permissions of the socket file.
        limits: Deadlines and bounds.

    Raises:
        ConfigError: `where` is not loopback.
    """

    def __init__(
        self,
        where: str,
        ready: Callable[[], tuple[bool, str]],
        *,
        mode: int = 0o666,
        limits: Limits = _LIMITS,
    ) -> None:
        super().__init__(where, mode, "it asks nobody for a certificate", limits)
        self.readiness = ready

    def _connection(self) -> "HealthConnection":
        return HealthConnection(self)


class HealthConnection(Connection):
    """One probe."""

    def __init__(self, door: HealthDoor) -> None:
        super().__init__(door)
        self._readiness = door.readiness
        self._head = b""

    def _received(self, data: memoryview) -> None:
        self._head += bytes(data[: MAX_HEAD_BYTES + 1 - len(self._head)])
        if b"\r\n\r\n" in self._head or b"\n\n" in self._head:
            self._answer(*self._judge(self._head.split(b"\n", 1)[0]))
        elif len(self._head) > MAX_HEAD_BYTES:
            self._answer(431, "the head of the request is too long")

    def _judge(self, request_line: bytes) -> tuple[int, str]:
        words = request_line.split()
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return 400, "not HTTP/1.1"
        if words[0] not in {b"GET", b"HEAD"}:
            return 405, "GET and HEAD only"
        path = words[1].split(b"?", 1)[0]
        if path == b"/healthz":
            return 200, "running"
        if path != b"/readyz":
            return 404, "there are /healthz and /readyz"
        ready, because = self._readiness()
        return (200, "ready") if ready else (503, because)

    def _answer(self, status: int, text: str) -> None:
        body = json.dumps({"ok": status == 200, "status": text}).encode() + b"\n"
        head = (
            f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nConnection: close\r\n"
            f"{'Allow: GET, HEAD' + chr(13) + chr(10) if status == 405 else ''}\r\n"
        )
        self._write(head.encode() + (b"" if self._head.startswith(b"HEAD ") else body))
        self._leave()
