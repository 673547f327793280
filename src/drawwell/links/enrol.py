"""Joining a broker by token: verify it, send the secret, verify the reply."""

import hmac
import socket
import ssl
import time
from collections.abc import Callable
from typing import Final

from drawwell.crypto import pki, tokens
from drawwell.crypto.receipts import public_key_id
from drawwell.crypto.tokens import Token
from drawwell.errors import (
    AuthenticationFailed,
    LinkUnavailable,
    PermissionRefused,
    RemoteProtocolError,
    UsageError,
)
from drawwell.host.clock import clock_is_set
from drawwell.links.identity import LinkIdentity, Staging, check_certificate
from drawwell.wire.contexts import X509_V_FLAG_NO_CHECK_TIME
from drawwell.wire.enrolment import (
    ENROL_NAME,
    FLEET_LIMIT_BYTES,
    LIMIT_BYTES,
    PREFIX_BYTES,
    FleetReply,
    JoinRefusal,
    JoinReply,
    JoinRequest,
    body_length,
    encode_message,
    parse_fleet_reply,
    parse_reply,
)
from drawwell.wire.tls import peer_chain, require_strength

DEADLINE_S: Final = 15.0
_USED: Final = (
    "If that was not one of your machines, the token was stolen. Ask the broker's operator to run 'drawwell consumer "
    "revoke', and then 'drawwell consumer invite' again."
)
_INVITE_AGAIN: Final = "Ask the broker's operator to run 'drawwell consumer invite' again."


def join(
    token: Token, directory: str, *, force: bool = False, deadline_s: float = DEADLINE_S
) -> LinkIdentity:
    """Join the token's broker, and store the identity in `directory`. Blocks.

    Raises:
        UsageError: an identity exists and `force` is not set; nothing was sent.
        StateUnavailable: the directory cannot be written; nothing was sent.
        LinkUnavailable: no answer, or a broken connection; the token might be used up.
        AuthenticationFailed: another broker answered; the secret was not sent.
        PermissionRefused: the token is used, expired, void or unknown.
    """
    staging = Staging(directory, force=force)
    try:
        reply = exchange(token, staging.csr_pem, deadline_s)
        _check_reply(reply, token, staging.key_pem)
        return staging.finish(reply)
    except BaseException:
        staging.discard()
        raise


def exchange(token: Token, csr_pem: bytes, deadline_s: float) -> JoinReply:
    """Send the request and read the reply; same errors as `join`."""
    request = JoinRequest(token.invitation, token.secret, csr_pem.decode())
    reply = parse_reply(_exchange(token, request, LIMIT_BYTES, deadline_s))
    if isinstance(reply, JoinRefusal):
        raise _refused(reply, _USED, _INVITE_AGAIN)
    return reply


def join_fleet(
    token: Token, csr_pem: bytes, receipt_key: bytes, deadline_s: float = DEADLINE_S
) -> FleetReply:
    """Join a fleet as a broker; same errors as `join`. It can be retried."""
    request = JoinRequest(token.invitation, token.secret, csr_pem.decode(), receipt_key=receipt_key.decode())
    reply = parse_fleet_reply(_exchange(token, request, FLEET_LIMIT_BYTES, deadline_s))
    if isinstance(reply, JoinRefusal):
        again = "Run 'drawwell fleet invite' on the other machine again."
        raise _refused(reply, again, again)
    if not hmac.compare_digest(pki.spki_sha256(reply.root.encode()), token.ca_spki_sha256):
        raise _not_the_broker(token)
    return reply


def _exchange(token: Token, request: JoinRequest, limit: int, deadline_s: float) -> bytes:
    """Send a request; return the body of the reply."""
    remaining = _countdown(deadline_s)
    try:
        with _checked(token, remaining) as peer:
            peer.sendall(encode_message(request))
            length = body_length(_receive(peer, PREFIX_BYTES, remaining), limit)
            return _receive(peer, length, remaining)
    except (OSError, EOFError) as error:
        hint = (
            f"Ask the broker's operator to set a name in [tls] names that this machine can resolve, restart the "
            f"broker, and invite again; or add {token.host} to this machine's /etc/hosts."
            if isinstance(error, socket.gaierror)
            else "Check the address, the firewall, and that the invitation has not expired: the broker listens "
            "there only until its last invitation ends."
        )
        raise LinkUnavailable(f"cannot join at {token.address}: {_reason(error)}", hint=hint) from error


def _checked(token: Token, remaining: Callable[[], float]) -> ssl.SSLSocket:
    """Connect only to the broker that created the token.

    The chain must contain the root whose hash is in the token. Then a second connection is
    verified against that root in the usual way. A broker of release 0.1 uses the CA itself as
    its certificate, so the first handshake has already proved that key.
    """
    peer = _connect(token, remaining, None)
    chain = peer_chain(peer)
    root = next((der for der in chain if _is_pinned(der, token)), None)
    if root is None:
        peer.close()
        raise _not_the_broker(token)
    if root is chain[0]:
        return peer
    peer.close()
    try:
        return _connect(token, remaining, pki.to_pem(root).decode())
    except ssl.SSLCertVerificationError as error:
        raise _not_the_broker(token) from error


def _connect(token: Token, remaining: Callable[[], float], root: str | None) -> ssl.SSLSocket:
    """Connect with TLS 1.3; verify chain and name if a root (PEM) is given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if root is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(cadata=root)
        if not clock_is_set():
            context.verify_flags |= ssl.VerifyFlags(X509_V_FLAG_NO_CHECK_TIME)
    plain = socket.create_connection((token.host, token.port), remaining())
    plain.settimeout(remaining())
    try:
        peer = context.wrap_socket(plain, server_hostname=ENROL_NAME)
        require_strength(peer)
    except BaseException:
        plain.close()
        raise
    return peer


def _is_pinned(certificate: bytes, token: Token) -> bool:
    try:
        return hmac.compare_digest(pki.spki_sha256(certificate), token.ca_spki_sha256)
    except ValueError:
        return False


def _not_the_broker(token: Token) -> AuthenticationFailed:
    return AuthenticationFailed(
        f"{token.address} is not the broker that made this token; the secret was not sent",
        hint="Either the connection is intercepted, or the broker's CA was replaced. Ask the broker's operator.",
    )


def _check_reply(reply: JoinReply, token: Token, key_pem: bytes) -> None:
    ca_certificate = reply.ca_certificate.encode()
    if not any(_is_pinned(ca, token) for ca in pki.pem_blocks(ca_certificate)):
        raise _not_the_broker(token)
    check_certificate(reply.certificate.encode(), key_pem, ca_certificate, reply.consumer)
    try:
        for address in reply.addresses:
            tokens.parse_address(address)
        if reply.receipt_public_key:
            for key in pki.pem_blocks(reply.receipt_public_key.encode()):
                public_key_id(key)
    except UsageError as error:
        raise RemoteProtocolError(f"the broker sent an invalid address: {error}") from error
    except ValueError as error:
        raise RemoteProtocolError(f"the broker sent an invalid receipt key: {error}") from error


def _refused(refusal: JoinRefusal, used: str, again: str) -> PermissionRefused | LinkUnavailable:
    if refusal.reason == "unavailable":
        return LinkUnavailable(refusal.message, hint="Try the same token again later.")
    return PermissionRefused(refusal.message, hint=used if refusal.reason == "used" else again)


def _receive(peer: ssl.SSLSocket, size: int, remaining: Callable[[], float]) -> bytes:
    data = bytearray()
    while len(data) < size:
        peer.settimeout(remaining())
        piece = peer.recv(size - len(data))
        if not piece:
            raise EOFError("the broker closed the connection")
        data += piece
    return bytes(data)


def _countdown(deadline_s: float) -> Callable[[], float]:
    end = time.monotonic() + deadline_s

    def remaining() -> float:
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left

    return remaining


def _reason(error: OSError | EOFError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"TLS error: {(error.reason or 'handshake failed').replace('_', ' ').lower()}"
    return (getattr(error, "strerror", None) or str(error)).lower()
