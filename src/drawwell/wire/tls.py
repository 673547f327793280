"""TLS as a sans-I/O layer: ciphertext in, plaintext and ciphertext out, over ssl.SSLObject and two memory BIOs.

asyncio's own layer keeps 256 KiB for each connection and hides how much an unknown peer has sent; this one keeps
what OpenSSL needs and takes MAX_HANDSHAKE_BYTES from a peer that has not yet shown who it is.
"""

import contextlib
import ssl
from enum import Enum
from typing import Any, Final

from drawwell.errors import AuthenticationFailed, LocalProtocolError, RemoteProtocolError
from drawwell.wire.hello import MAX_HELLO_BYTES, chosen_group
from drawwell.wire.limits import ALPN, MAX_HANDSHAKE_BYTES

_RECORD_BYTES: Final = 16_384
"""The most plaintext in one record (RFC 8446, section 5.1)."""
STRONG_SUITES: Final = frozenset({"TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"})
"""Keys of 256 bits (RFC 8446, appendix B.4). The ssl module cannot leave the others out of an offer."""
_CERTIFICATE_ALERTS: Final = (
    "BAD_CERTIFICATE", "UNSUPPORTED_CERTIFICATE", "CERTIFICATE_REVOKED", "CERTIFICATE_EXPIRED",
    "CERTIFICATE_UNKNOWN", "UNKNOWN_CA", "ACCESS_DENIED", "CERTIFICATE_REQUIRED",
)  # fmt: skip
"""Alerts by which a broker says that it does not take our certificate (RFC 8446, section 6.2)."""


def require_strength(tls: ssl.SSLObject | ssl.SSLSocket) -> None:
    """Look at what a handshake that is done has come to.

    Raises:
        RemoteProtocolError: not TLS 1.3, or a suite whose key is shorter than 256 bits.
    """
    suite = tls.cipher()
    if tls.version() != "TLSv1.3" or suite is None or suite[0] not in STRONG_SUITES:
        raise RemoteProtocolError(
            f"{suite[0] if suite else tls.version()} was negotiated, which is too weak here"
        )


def peer_chain(peer: ssl.SSLSocket) -> list[bytes]:
    """Return the certificates that a peer has shown (DER), its own first; nothing of them is verified.

    ssl.SSLSocket has the method from Python 3.13 on, the object inside from 3.10 on.
    """
    if method := getattr(peer, "get_unverified_chain", None):
        return list(method())
    inner: Any = peer._sslobj  # type: ignore[attr-defined]  # noqa: SLF001
    return [ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in inner.get_unverified_chain() or ()]


class TlsState(Enum):
    """Where a TLS connection stands."""

    HANDSHAKE = "handshake"
    OPEN = "open"
    CLOSED = "closed"


class TlsLayer:
    """One TLS connection, either end.

    Feed what the socket gave to `receive_data`, read plaintext with `read`, and after every call send what
    `data_to_send` returns: also after an error, as the alert is in it.
    """

    def __init__(self, context: ssl.SSLContext, *, server_name: str | None = None) -> None:
        """Start a connection: as the client of `server_name`, as the server when there is none."""
        self.state = TlsState.HANDSHAKE
        self.group: int | None = None
        """The key-exchange group that was negotiated (wire.hello), None until that is known."""
        self._hello: bytes | None = b""
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._server_side = server_name is None
        self._allowance = MAX_HANDSHAKE_BYTES
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=self._server_side, server_hostname=server_name
        )

    def start(self) -> None:
        """Say the client's first word; a server has none."""
        if not self._server_side:
            self._handshake()

    def receive_data(self, data: bytes | memoryview) -> None:
        """Take ciphertext from the peer, and go on with the handshake.

        Raises:
            AuthenticationFailed: a certificate did not convince, here or there.
            RemoteProtocolError: this is not the TLS that we speak, or too much of it came before the handshake
                was done.
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
                raise RemoteProtocolError(f"no handshake within {MAX_HANDSHAKE_BYTES} bytes")
        self._incoming.write(data)

    def read(self, data: bytes | memoryview = b"") -> bytes:
        """Return the plaintext that is here, b"" when there is none; a close by the peer shows in `state`.

        Args:
            data: More ciphertext from the peer, after the handshake.

        Raises:
            AuthenticationFailed, RemoteProtocolError: as `receive_data`.
        """
        if self.state is not TlsState.OPEN:
            return b""
        chunks: list[bytes] = []
        try:
            self._incoming.write(data)
            while chunk := self._tls.read(_RECORD_BYTES):
                if not self._incoming.pending:  # a read takes a record whole; to ask for more would raise
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
        """Encrypt `plaintext` whole.

        Raises:
            LocalProtocolError: the handshake is not done, or the connection is over.
        """
        if self.state is not TlsState.OPEN:
            raise LocalProtocolError(f"nothing can be written when {self.state.value}")
        self._tls.write(plaintext)

    def encrypt(self, plaintext: bytes) -> bytes:
        """Encrypt `plaintext` whole; return all ciphertext that must go to the peer.

        Raises:
            LocalProtocolError: as `write`.
        """
        if self.state is not TlsState.OPEN:
            self.write(plaintext)
        self._tls.write(plaintext)
        return self._outgoing.read() if self._hello is None else self.data_to_send()

    def data_to_send(self) -> bytes:
        """Take the ciphertext that must go to the peer, b"" for none."""
        data = self._outgoing.read()
        if self._server_side and self._hello is not None:
            self._note_group(data)
        return data

    def close(self) -> None:
        """Say that nothing follows (close_notify); a handshake that is not done is left as it is."""
        if self.state is TlsState.OPEN:
            self.state = TlsState.CLOSED
            with contextlib.suppress(ssl.SSLError):  # the peer's own close_notify is not waited for
                self._tls.unwrap()

    @property
    def protocol(self) -> str | None:
        """What both ends speak (ALPN); None where the peer named nothing that we know, or nothing at all."""
        return self._tls.selected_alpn_protocol()

    @property
    def peer_certificate(self) -> bytes:
        """The peer's certificate as DER, b"" when it showed none."""
        return self._tls.getpeercert(binary_form=True) or b""

    def _handshake(self) -> bool:
        """Go on as far as the bytes that are here allow; True when it is done."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            self.state = TlsState.CLOSED
            raise _translated(error) from None
        self.state = TlsState.OPEN
        try:
            self._insist()
        except RemoteProtocolError:
            self.close()
            raise
        return True

    def _insist(self) -> None:
        require_strength(self._tls)
        if not self._server_side and self.protocol != ALPN:
            raise RemoteProtocolError(f"the peer does not speak {ALPN}")

    def _note_group(self, data: bytes | memoryview) -> None:
        """Look for the broker's hello in what it says first."""
        if self._hello is not None and data:
            hello = self._hello + data
            self.group = chosen_group(hello)
            self._hello = hello if self.group is None and len(hello) < MAX_HELLO_BYTES else None


def _translated(error: ssl.SSLError) -> RemoteProtocolError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return AuthenticationFailed(f"the peer's certificate is not trusted: {error.verify_message}")
    reason = error.reason or "unexpected end"
    if any(reason.endswith(f"ALERT_{alert}") for alert in _CERTIFICATE_ALERTS):
        return AuthenticationFailed("the peer does not take our certificate")
    if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return AuthenticationFailed("the peer showed no certificate")
    return RemoteProtocolError(f"tls: {reason.replace('_', ' ').lower()}")
