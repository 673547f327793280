"""TLS without I/O, with ssl.SSLObject and two memory BIOs.

asyncio's own TLS layer allocates 256 KiB per connection and hides how much an unknown peer has
sent. This layer uses only the memory that OpenSSL needs, and limits a peer to
MAX_HANDSHAKE_BYTES until the peer is identified.
"""

import contextlib
import ssl
from enum import Enum
from typing import Any, Final

from drawwell.errors import AuthenticationFailed, LocalProtocolError, RemoteProtocolError
from drawwell.wire.hello import MAX_HELLO_BYTES, chosen_group
from drawwell.wire.limits import ALPN, MAX_HANDSHAKE_BYTES

_RECORD_BYTES: Final = 16_384
"""The maximum plaintext in one record (RFC 8446, section 5.1)."""
STRONG_SUITES: Final = frozenset({"TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"})
"""Suites with 256-bit keys (RFC 8446, B.4). The ssl module always offers other suites too."""
_CERTIFICATE_ALERTS: Final = (
    "BAD_CERTIFICATE", "UNSUPPORTED_CERTIFICATE", "CERTIFICATE_REVOKED", "CERTIFICATE_EXPIRED",
    "CERTIFICATE_UNKNOWN", "UNKNOWN_CA", "ACCESS_DENIED", "CERTIFICATE_REQUIRED",
)  # fmt: skip
"""Alerts with which a broker rejects our certificate (RFC 8446, section 6.2)."""


def require_strength(tls: ssl.SSLObject | ssl.SSLSocket) -> None:
    """Check the version and suite after a handshake.

    Raises:
        RemoteProtocolError: the version is not TLS 1.3, or the suite lacks 256-bit keys.
    """
    suite = tls.cipher()
    if tls.version() != "TLSv1.3" or suite is None or suite[0] not in STRONG_SUITES:
        what = suite[0] if suite else tls.version()
        raise RemoteProtocolError(f"the negotiated cipher suite or TLS version, {what}, is too weak")


def peer_chain(peer: ssl.SSLSocket) -> list[bytes]:
    """Return a peer's unverified certificates (DER), its own first.

    ssl.SSLSocket has had the method since Python 3.13, and its inner object since 3.10.
    """
    if method := getattr(peer, "get_unverified_chain", None):
        return list(method())
    inner: Any = peer._sslobj  # type: ignore[attr-defined]  # noqa: SLF001
    return [ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in inner.get_unverified_chain() or ()]


class TlsState(Enum):
    """States of a TLS connection."""

    HANDSHAKE = "handshake"
    OPEN = "open"
    CLOSED = "closed"


class TlsLayer:
    """One end of a TLS connection.

    Pass input to `receive_data` and get plaintext from `read`. After every call, send the
    result of `data_to_send`; after an error it is the alert.
    """

    def __init__(self, context: ssl.SSLContext, *, server_name: str | None = None) -> None:
        """Create a client that connects to `server_name`, or a server if None."""
        self.state = TlsState.HANDSHAKE
        self.group: int | None = None
        """The negotiated key-exchange group (wire/hello.py), or None."""
        self._hello: bytes | None = b""
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._server_side = server_name is None
        self._allowance = MAX_HANDSHAKE_BYTES
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=self._server_side, server_hostname=server_name
        )

    def start(self) -> None:
        """Start the handshake of a client; a server waits for input."""
        if not self._server_side:
            self._handshake()

    def receive_data(self, data: bytes | memoryview) -> None:
        """Process ciphertext, and continue the handshake.

        Raises:
            AuthenticationFailed: a certificate was rejected, here or by the peer.
            RemoteProtocolError: a TLS error, or too much input before the handshake ended.
        """
        if self.state is TlsState.CLOSED:
            return
        if self.state is TlsState.HANDSHAKE:
            taken, data = data[: self._allowance], data[self._allowance :]
            self._allowance -= len(taken)
            self._incoming.write(taken)
            if not self._server_side:
                self._note_group(taken)
            if not self._handshake() and not self._allowance:
                self.state = TlsState.CLOSED
                raise RemoteProtocolError(f"the handshake did not end within {MAX_HANDSHAKE_BYTES} bytes")
        self._incoming.write(data)

    def read(self, data: bytes | memoryview = b"") -> bytes:
        """Return available plaintext or b""; a close by the peer changes `state`.

        Args:
            data: More ciphertext from the peer, after the handshake.

        Raises:
            AuthenticationFailed, RemoteProtocolError: for the same reasons as `receive_data`.
        """
        if self.state is not TlsState.OPEN:
            return b""
        chunks: list[bytes] = []
        try:
            self._incoming.write(data)
            while chunk := self._tls.read(_RECORD_BYTES):
                if not self._incoming.pending:  # a read returns a whole record; another read would raise
                    if not chunks:
                        return chunk
                    chunks.append(chunk)
                    break
                chunks.append(chunk)
            else:
                self.state = TlsState.CLOSED
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.state = TlsState.CLOSED
        except ssl.SSLError as error:
            self.state = TlsState.CLOSED
            raise _translated(error) from None
        return b"".join(chunks)

    def write(self, plaintext: bytes) -> None:
        """Encrypt `plaintext`.

        Raises:
            LocalProtocolError: the handshake has not ended, or the connection is closed.
        """
        if self.state is not TlsState.OPEN:
            raise LocalProtocolError(f"cannot write in state {self.state.value}")
        self._tls.write(plaintext)

    def encrypt(self, plaintext: bytes) -> bytes:
        """Encrypt `plaintext`; return all ciphertext, or b"" unless open."""
        if self.state is not TlsState.OPEN:
            return b""
        self._tls.write(plaintext)
        return self._outgoing.read() if self._hello is None else self.data_to_send()

    def data_to_send(self) -> bytes:
        """Return and remove the ciphertext for the peer, or b"" if there is none."""
        data = self._outgoing.read()
        if self._server_side and self._hello is not None:
            self._note_group(data)
        return data

    def close(self) -> None:
        """Send close_notify if the handshake has ended."""
        if self.state is TlsState.OPEN:
            self.state = TlsState.CLOSED
            with contextlib.suppress(ssl.SSLError):  # without waiting for the peer's close_notify
                self._tls.unwrap()

    @property
    def protocol(self) -> str | None:
        """The negotiated protocol (ALPN), or None."""
        return self._tls.selected_alpn_protocol()

    @property
    def peer_certificate(self) -> bytes:
        """The peer's certificate in DER, or b"" if there is none."""
        return self._tls.getpeercert(binary_form=True) or b""

    def _handshake(self) -> bool:
        """Continue the handshake with available input; return whether it ended."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            self.state = TlsState.CLOSED
            raise _translated(error) from None
        self.state = TlsState.OPEN
        try:
            self._require_protocol()
        except RemoteProtocolError:
            self.close()
            raise
        return True

    def _require_protocol(self) -> None:
        require_strength(self._tls)
        if not self._server_side and self.protocol != ALPN:
            raise RemoteProtocolError(f"the peer does not support {ALPN}")

    def _note_group(self, data: bytes | memoryview) -> None:
        """Find the group in the broker's first bytes."""
        if self._hello is not None and data:
            hello = self._hello + data
            self.group = chosen_group(hello)
            self._hello = hello if self.group is None and len(hello) < MAX_HELLO_BYTES else None


def _translated(error: ssl.SSLError) -> RemoteProtocolError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return AuthenticationFailed(f"the peer's certificate is not trusted: {error.verify_message}")
    reason = error.reason or "unexpected end"
    if any(reason.endswith(f"ALERT_{alert}") for alert in _CERTIFICATE_ALERTS):
        return AuthenticationFailed("the peer rejected our certificate")
    if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return AuthenticationFailed("the peer did not send a certificate")
    return RemoteProtocolError(f"TLS error: {reason.replace('_', ' ').lower()}")
