"""Joining a broker by token: check whom we speak to, only then show the secret, check what comes back."""

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
    PREFIX_BYTES,
    JoinRefusal,
    JoinReply,
    JoinRequest,
    body_length,
    encode_message,
    parse_reply,
)
from drawwell.wire.tls import peer_chain, require_strength

DEADLINE_S: Final = 15.0
_USED: Final = (
    "If that was no machine of yours, another one has your token: have the broker's operator type "
    "'drawwell consumer revoke', and then 'drawwell consumer invite' again."
)
_INVITE_AGAIN: Final = "Have the broker's operator type 'drawwell consumer invite' again."


def join(
    token: Token, directory: str, *, force: bool = False, deadline_s: float = DEADLINE_S
) -> LinkIdentity:
    """Join the broker that made `token` and keep the identity in `directory`. Blocks for `deadline_s` at most.

    Raises:
        UsageError: there is an identity already and `force` is not set; nothing was sent.
        StateUnavailable: the directory cannot be written; nothing was sent.
        LinkUnavailable: nobody listens, or the connection broke; the token may be used up when it broke late.
        AuthenticationFailed: it is not the broker that made the token; the secret was not sent.
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
    """Send the request and read the reply; raises as `join`."""
    remaining = _countdown(deadline_s)
    try:
        with _checked(token, remaining) as peer:
            peer.sendall(encode_message(JoinRequest(token.invitation, token.secret, csr_pem.decode())))
            length = body_length(_receive(peer, PREFIX_BYTES, remaining))
            reply = parse_reply(_receive(peer, length, remaining))
    except (OSError, EOFError) as error:
        hint = (
            f'The broker\'s operator chose that name: [tls] names = ["…"] there takes one that resolves here, then '
            f"restart and invite again; or add {token.host} to this machine's /etc/hosts."
            if isinstance(error, socket.gaierror)
            else "The broker listens there only until its last invitation ends: check the address, the firewall, "
            "and that the invitation has not expired."
        )
        raise LinkUnavailable(f"cannot join at {token.address}: {_reason(error)}", hint=hint) from error
    if isinstance(reply, JoinRefusal):
        raise _refused(reply)
    return reply


def _checked(token: Token, remaining: Callable[[], float]) -> ssl.SSLSocket:
    """Connect to the broker that made the token, and to no other.

    The chain that is shown must hold the root whose key the token names. A second connection is
    then verified against that root, as any TLS client does. A broker of release 0.1 shows its CA
    itself, and the first handshake has proved that key.
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
    """Connect by TLS 1.3; verify chain and name where a root (PEM) is given."""
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
        hint="Somebody may be in between, or the broker's authority was replaced: ask its operator.",
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
        raise RemoteProtocolError(f"the broker sent an address that is none: {error}") from error
    except ValueError as error:
        raise RemoteProtocolError(f"the broker's receipt key is {error}") from error


def _refused(refusal: JoinRefusal) -> PermissionRefused | LinkUnavailable:
    if refusal.reason == "unavailable":
        return LinkUnavailable(refusal.message, hint="Try the same token again when the broker is well.")
    return PermissionRefused(refusal.message, hint=_USED if refusal.reason == "used" else _INVITE_AGAIN)


def _receive(peer: ssl.SSLSocket, size: int, remaining: Callable[[], float]) -> bytes:
    data = bytearray()
    while len(data) < size:
        peer.settimeout(remaining())
        piece = peer.recv(size - len(data))
        if not piece:
            raise EOFError("it hung up")
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
        return f"no TLS: {(error.reason or 'handshake failed').replace('_', ' ').lower()}"
    return (getattr(error, "strerror", None) or str(error)).lower()
