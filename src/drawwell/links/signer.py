"""The `SigningKeys` of another process, the signer.

Calls block for `DEADLINE_S` at most, so an event loop makes them in a thread; `require` never
blocks. After a failure the signer counts as away for a second. One that took a request and did
not answer counts as away until it has answered another.
"""

import select
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

from drawwell.crypto.hierarchy import PublicKeys
from drawwell.errors import PermissionRefused, RemoteProtocolError, StateUnavailable, UsageError
from drawwell.wire import signer_messages as messages

DEADLINE_S: Final = 1.0
AWAY_S: Final = 1.0
_ERRORS: Final = {
    "usage": UsageError, "refused": PermissionRefused, "state": StateUnavailable, "value": ValueError,
}  # fmt: skip
_HINT: Final = "Start it: 'systemctl start drawwell-signer'; its log has the reason."


class RemoteKeys:
    """The keys of the signer at `path`; any thread.

    Args:
        path: Its socket.
        deadline_s: How long a call waits at most, in seconds.

    Raises:
        StateUnavailable: from every method: no answer, or the signer cannot write its files.
    """

    def __init__(self, path: str, deadline_s: float = DEADLINE_S) -> None:
        self._path, self._deadline_s = path, deadline_s
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._away_until, self._away_because = 0.0, ""
        self._silent = False

    def close(self) -> None:
        """Close the connection; another call opens one."""
        if self._socket:
            self._socket.close()
            self._socket = None

    def require(self) -> None:
        """Return if the signer can be asked, without waiting for it."""
        peer = self._socket
        if self._silent:
            raise StateUnavailable(self._away_because, hint=_HINT)
        if (peer is None or _has_ended(peer)) and self._lock.acquire(blocking=False):
            try:
                self._connected()
            finally:
                self._lock.release()

    def public(self) -> PublicKeys:
        """See SigningKeys."""
        found = self.ask("public")
        names = ("roots", "authorities", "receipt_key", "key_list")
        return PublicKeys(*(messages.text_of(found, name).encode() for name in names))

    def certify(self, csr_pem: bytes, consumer: str, now: float) -> bytes:  # noqa: ARG002 - its own clock
        """See SigningKeys."""
        return messages.text_of(self.ask("certify", csr=csr_pem.decode(), consumer=consumer), "pem").encode()

    def serve(self, csr_pem: bytes, names: Sequence[str], now: float) -> bytes:  # noqa: ARG002 - its own clock
        """See SigningKeys."""
        return messages.text_of(self.ask("serve", csr=csr_pem.decode(), names=list(names)), "pem").encode()

    def sign(self, texts: Sequence[bytes]) -> list[bytes]:
        """See SigningKeys."""
        signatures = []
        for at in range(0, len(texts), messages.MOST_TEXTS):
            part = texts[at : at + messages.MOST_TEXTS]
            answer = self._exchange(messages.write_texts(part))
            if not answer.startswith(messages.SIGN):
                raise _error(messages.read_object(answer))
            signatures += messages.read_signatures(answer, len(part))
        return signatures

    def ask(self, op: str, **arguments: Any) -> dict[str, Any]:
        """Send a request and return its result; raises the error in it."""
        fields = messages.read_object(self._exchange(messages.write_object(op=op, **arguments)))
        if "error" in fields:
            raise _error(fields)
        return fields

    def _exchange(self, payload: bytes) -> bytes:
        with self._lock:
            peer = self._connected()
            until = time.monotonic() + self._deadline_s
            try:
                peer.settimeout(self._deadline_s)
                peer.sendall(messages.frame(payload))
                length = messages.payload_length(_receive(peer, messages.PREFIX_BYTES, until))
                answer = _receive(peer, length, until)
            except (OSError, EOFError, RemoteProtocolError) as error:
                raise self._gone(error) from error
            self._silent = False
            return answer

    def _connected(self) -> socket.socket:
        """Return a socket to the signer; a closed one is replaced."""
        if self._socket and _has_ended(self._socket):
            self.close()
        if self._socket:
            return self._socket
        if time.monotonic() < self._away_until:
            raise StateUnavailable(self._away_because, hint=_HINT)
        peer = socket.socket(socket.AF_UNIX)
        peer.setblocking(False)  # a full queue of connections is refused at once
        try:
            peer.connect(self._path)
        except OSError as error:
            peer.close()
            raise self._gone(error) from error
        self._socket = peer
        return peer

    def _gone(self, error: Exception) -> StateUnavailable:
        self.close()
        reason = (getattr(error, "strerror", None) or str(error) or "no answer").lower()
        self._away_until = time.monotonic() + AWAY_S
        self._away_because = f"the signer at {self._path} is away: {reason}"
        self._silent = self._silent or isinstance(error, TimeoutError)
        return StateUnavailable(self._away_because, hint=_HINT)


def _has_ended(peer: socket.socket) -> bool:
    """Return whether the other end has closed, without waiting for it."""
    poller = select.poll()
    try:
        poller.register(peer, select.POLLRDHUP)
    except ValueError:  # it was replaced just now
        return True
    return bool(poller.poll(0))


def _receive(peer: socket.socket, size: int, until: float) -> bytes:
    data = bytearray()
    while len(data) < size:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        peer.settimeout(left)
        piece = peer.recv(size - len(data))
        if not piece:
            raise EOFError("it closed the connection")
        data += piece
    return bytes(data)


def _error(fields: dict[str, Any]) -> Exception:
    kind = _ERRORS.get(str(fields.get("error")), StateUnavailable)
    message, hint = str(fields.get("message", "")), fields.get("hint")
    return kind(message) if kind is ValueError else kind(message, hint=hint and str(hint))
