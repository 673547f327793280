"""Invitation tokens: one line that carries where to enrol, whom to believe there, and the one-time secret.

``dw1.<host:port>.<SHA-256 of the CA's SPKI>.<invitation>.<secret>``, the last three in base64url without
padding (RFC 4648, 5). It is read from the right, for a host has dots too; IPv6 stands in brackets.
"""

import base64
import binascii
import hashlib
import hmac
import ipaddress
import re
from dataclasses import dataclass, field
from typing import Final

from drawwell.errors import UsageError

VERSION: Final = "dw1"
SPKI_BYTES: Final = 32
INVITATION_BYTES: Final = 8
SECRET_BYTES: Final = 32
"""256 bits: nobody guesses it, so its hash may be stored without salt or stretching."""

_HOST: Final = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*\.?", re.ASCII)
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
"""One port has one spelling: no zero stands before it."""
_PASTE_AGAIN: Final = "Copy the whole line that 'drawwell consumer invite' printed, and paste it again."


@dataclass(frozen=True, slots=True)
class Token:
    """One invitation. `invitation` is public and names it on the broker; `secret` is worth a certificate."""

    host: str
    port: int
    ca_spki_sha256: bytes
    invitation: str
    secret: bytes = field(repr=False)

    @property
    def address(self) -> str:
        """Where to enrol, as ``host:port``."""
        return format_address(self.host, self.port)

    def reveal(self) -> str:
        """Write the token out, secret and all: for the one line that the operator pastes."""
        parts = (VERSION, self.address, _encode(self.ca_spki_sha256), self.invitation, _encode(self.secret))
        return ".".join(parts)


def parse_token(text: str) -> Token:
    """Read a token.

    Raises:
        UsageError: which part is wrong, never what it holds.
    """
    if not text.startswith("dw"):
        raise UsageError("this is not an invitation token", hint=_PASTE_AGAIN)
    if any(character.isspace() for character in text):
        raise UsageError("the token has a space or line break in it", hint=_PASTE_AGAIN)
    version, _, rest = text.partition(".")
    if version != VERSION:
        raise UsageError(
            f"the token is of version {version[:8]!r}, this program knows {VERSION!r}",
            hint="Use the drawwell version of the broker that made it.",
        )
    parts = rest.rsplit(".", 3)
    if len(parts) != 4 or any(":" in part for part in parts[1:]):
        raise UsageError("the token is cut off: parts of it are missing", hint=_PASTE_AGAIN)
    host, port = parse_address(parts[0])
    spki, invitation, secret = (
        _decode(part, size, what)
        for part, size, what in zip(
            parts[1:],
            (SPKI_BYTES, INVITATION_BYTES, SECRET_BYTES),
            ("hash of the authority", "invitation", "secret"),
            strict=True,
        )
    )
    return Token(host, port, spki, _encode(invitation), secret)


def invitation_name(data: bytes) -> str:
    """Write `INVITATION_BYTES` of randomness as an invitation's name."""
    return _encode(data)


def secret_hash(secret: bytes) -> bytes:
    """What the broker stores instead of the secret: SHA-256, 32 bytes."""
    return hashlib.sha256(secret).digest()


def secret_matches(secret: bytes, stored_hash: bytes) -> bool:
    """Compare a secret that was shown with the stored hash, in constant time."""
    return hmac.compare_digest(secret_hash(secret), stored_hash)


def parse_address(text: str) -> tuple[str, int]:
    """Read ``host:port``, ``192.0.2.1:port`` or ``[2001:db8::1]:port``.

    Raises:
        UsageError: not such an address.
    """
    host, _, port = text.rpartition(":")
    if not (_PORT.fullmatch(port) and int(port) < 65536 and _is_host(host)):
        raise UsageError(
            "the address is not host:port", hint="Write it like broker.example:55001 or [2001:db8::1]:55001."
        )
    return host.strip("[]"), int(port)


def format_address(host: str, port: int) -> str:
    """Write ``host:port``, IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_host(text: str) -> bool:
    if not text.startswith("["):
        return len(text) < 254 and _HOST.fullmatch(text) is not None
    try:
        return text.endswith("]") and ipaddress.IPv6Address(text[1:-1]) is not None
    except ValueError:
        return False


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decode(text: str, size: int, what: str) -> bytes:
    length = (size * 8 + 5) // 6
    if len(text) < length:
        raise UsageError(f"the token is cut off: its {what} is too short", hint=_PASTE_AGAIN)
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if len(data) != size or _encode(data) != text:  # one spelling for one token
        raise UsageError(f"the token's {what} is not as it was printed", hint=_PASTE_AGAIN)
    return data
