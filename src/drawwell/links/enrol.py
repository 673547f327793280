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
from drawwell.links.identity import LinkIdentity, Staging, check_certificate
from drawwell.wire.enrolment import (
    PREFIX_BYTES,
    JoinRefusal,
    JoinReply,
    JoinRequest,
    body_length,
    encode_message,
    parse_reply,
)
from drawwell.wire.tls import require_strength

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
        with socket.create_connection((token.host, token.port), remaining()) as plain:
            plain.settimeout(remaining())
            with _context().wrap_socket(plain) as peer:
                require_strength(peer)
                _check_authority(peer.getpeercert(binary_form=True) or b"", token)
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


def _context() -> ssl.SSLContext:
    """TLS 1.3; the handshake proves the key, and `_check_authority` that it is the right one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _check_authority(certificate_der: bytes, token: Token) -> None:
    try:
        shown = pki.spki_sha256(certificate_der)
    except ValueError:
        shown = b""
    if not hmac.compare_digest(shown, token.ca_spki_sha256):
        raise AuthenticationFailed(
            f"{token.address} is not the broker that made this token; the secret was not sent",
            hint="Somebody may be in between, or the broker's authority was replaced: ask its operator.",
        )


def _check_reply(reply: JoinReply, token: Token, key_pem: bytes) -> None:
    ca_certificate = reply.ca_certificate.encode()
    _check_authority(ca_certificate, token)
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
