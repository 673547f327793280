"""`SigningKeys` that are in another process, the signer.

Calls block for `DEADLINE_S` at most, so an event loop must make them in a thread; `require`
never blocks. After a failure the signer counts as unreachable for a second. If it accepted a
request but did not answer, it counts as unreachable until it answers another one.
"""

import select
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

from drawwell.crypto.hierarchy import PublicKeys
from drawwell.errors import PermissionRefused, RemoteProtocolError, StateUnavailable, UsageError
from drawwell.links.signer_stream import SignerStream
from drawwell.wire import signer_messages as messages

DEADLINE_S: Final = 5.0
AWAY_S: Final = 1.0
_ERRORS: Final = {
    "usage": UsageError, "refused": PermissionRefused, "state": StateUnavailable, "value": ValueError,
}  # fmt: skip
_CANNOT: Final = "reach its signer"
_HINT: Final = "Run 'systemctl start drawwell-signer', or see the signer's log."


class RemoteKeys:
    """The keys of the signer at `path`, for any thread.

    Args:
        path: The signer's socket.
        deadline_s: The longest time that a call waits, in seconds.

    Raises:
        StateUnavailable: from every method, if the signer cannot answer or write its files.
    """

    def __init__(self, path: str, deadline_s: float = DEADLINE_S) -> None:
        self._path, self._deadline_s = path, deadline_s
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._stream: SignerStream | None = None
        self._away_until, self._away_because = 0.0, ""
        self._silent = False

    def close(self) -> None:
        """Close the connections; the next call connects again."""
        self._disconnect()
        if self._stream:
            self._stream.close()

    def _disconnect(self) -> None:
        if self._socket:
            self._socket.close()
            self._socket = None

    def require(self) -> None:
        """Check that the signer is reachable, without waiting for it."""
        peer = self._socket
        if self._silent:
            raise StateUnavailable(self._away_because, hint=_HINT, cannot=_CANNOT)
        if (peer is None or _has_ended(peer)) and self._lock.acquire(blocking=False):
            try:
                self._connected()
            finally:
                self._lock.release()

    def public(self) -> PublicKeys:
        """Return the public keys; see `SigningKeys.public`."""
        found = self.ask("public")
        names = ("roots", "authorities", "receipt_key", "key_list")
        return PublicKeys(*(messages.text_of(found, name).encode() for name in names))

    def certify(self, csr_pem: bytes, consumer: str, now: float) -> bytes:  # noqa: ARG002 - its own clock
        """Issue a consumer's certificate chain; see `SigningKeys.certify`."""
        return messages.text_of(self.ask("certify", csr=csr_pem.decode(), consumer=consumer), "pem").encode()

    def serve(self, csr_pem: bytes, names: Sequence[str], now: float) -> bytes:  # noqa: ARG002 - its own clock
        """Issue a server's certificate chain; see `SigningKeys.serve`."""
        return messages.text_of(self.ask("serve", csr=csr_pem.decode(), names=list(names)), "pem").encode()

    def sign(self, texts: Sequence[bytes]) -> list[bytes]:
        """Return signatures of texts; see `SigningKeys.sign`."""
        signatures = []
        for at in range(0, len(texts), messages.MOST_TEXTS):
            part = texts[at : at + messages.MOST_TEXTS]
            signatures += _signatures(self._exchange(messages.write_texts(part)), len(part))
        return signatures

    async def sign_soon(self, texts: Sequence[bytes]) -> list[bytes]:
        """Return signatures of at most `MOST_TEXTS` texts, in an event loop."""
        try:
            if self._stream is None or self._stream.ended:
                self._not_too_soon()
                self._stream = await SignerStream.open(self._path)
            answer = await self._stream.exchange(messages.write_texts(texts), self._deadline_s)
        except (OSError, EOFError, RemoteProtocolError) as error:
            raise self._away(error) from error
        self._silent, self._away_until = False, 0.0
        return _signatures(answer, len(texts))

    def ask(self, op: str, **arguments: Any) -> dict[str, Any]:
        """Send a request; return its result, or raise its error."""
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
            self._silent, self._away_until = False, 0.0
            return answer

    def _connected(self) -> socket.socket:
        """Return a socket to the signer, connecting if necessary."""
        if self._socket and _has_ended(self._socket):
            self._disconnect()
        if self._socket:
            return self._socket
        self._not_too_soon()
        peer = socket.socket(socket.AF_UNIX)
        peer.setblocking(False)  # fail immediately if the backlog is full
        try:
            peer.connect(self._path)
        except OSError as error:
            peer.close()
            raise self._gone(error) from error
        self._socket = peer
        return peer

    def _not_too_soon(self) -> None:
        if time.monotonic() < self._away_until:
            raise StateUnavailable(self._away_because, hint=_HINT, cannot=_CANNOT)

    def _gone(self, error: Exception) -> StateUnavailable:
        self._disconnect()
        return self._away(error)

    def _away(self, error: Exception) -> StateUnavailable:
        """Treat the signer as unreachable for a while."""
        reason = (getattr(error, "strerror", None) or str(error) or "no answer").lower()
        self._away_until = time.monotonic() + AWAY_S
        self._away_because = f"cannot reach the signer at {self._path}: {reason}"
        self._silent = self._silent or isinstance(error, TimeoutError)
        return StateUnavailable(self._away_because, hint=_HINT, cannot=_CANNOT)


def _signatures(answer: bytes, count: int) -> list[bytes]:
    if not answer.startswith(messages.SIGN):
        raise _error(messages.read_object(answer))
    return messages.read_signatures(answer, count)


def _has_ended(peer: socket.socket) -> bool:
    """Return whether the other end has closed, without waiting for it."""
    poller = select.poll()
    try:
        poller.register(peer, select.POLLRDHUP)
    except ValueError:  # closed by another thread
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
            raise EOFError("the signer closed the connection")
        data += piece
    return bytes(data)


def _error(fields: dict[str, Any]) -> Exception:
    kind = _ERRORS.get(str(fields.get("error")), StateUnavailable)
    message, hint = str(fields.get("message", "")), fields.get("hint")
    return kind(message) if kind is ValueError else kind(message, hint=hint and str(hint))
