"""Invitation tokens: an address, a CA's hash and a one-time secret.

The form is ``dw1.<host:port>.<SHA-256 of the CA's SPKI>.<invitation>.<secret>``. The last
three parts are in base64url without padding (RFC 4648, 5). IPv6 addresses are in brackets. A
token is parsed from the right, because a host name contains dots.
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
BROKER: Final = "dwf1"
"""The version of tokens that invite a broker to a fleet."""
_MADE_BY: Final = {VERSION: "drawwell consumer invite", BROKER: "drawwell fleet invite"}
_TAKEN_BY: Final = {VERSION: "drawwell join", BROKER: "drawwell fleet join -"}
SPKI_BYTES: Final = 32
INVITATION_BYTES: Final = 8
SECRET_BYTES: Final = 32
"""256 bits cannot be guessed, so the secret's hash is stored without salt or stretching."""

_HOST: Final = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*\.?", re.ASCII)
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
"""Leading zeros are not allowed: each port has exactly one spelling."""
_PASTE_AGAIN: Final = "Copy the complete printed line, and paste it again."


@dataclass(frozen=True, slots=True)
class Token:
    """An invitation: its public name, and its secret."""

    host: str
    port: int
    ca_spki_sha256: bytes
    invitation: str
    secret: bytes = field(repr=False)
    version: str = VERSION

    @property
    def address(self) -> str:
        """The address of the enrolment door, as ``host:port``."""
        return format_address(self.host, self.port)

    def reveal(self) -> str:
        """Return the whole token with its secret, for the operator to paste."""
        parts = (
            self.version,
            self.address,
            _encode(self.ca_spki_sha256),
            self.invitation,
            _encode(self.secret),
        )
        return ".".join(parts)


def parse_token(text: str, expected: str = VERSION) -> Token:
    """Parse a token of the `expected` version.

    Raises:
        UsageError: a part is wrong. The message names the part without quoting it.
    """
    if not text.startswith("dw"):
        raise UsageError("this is not an invitation token", hint=_PASTE_AGAIN)
    if any(character.isspace() for character in text):
        raise UsageError("the token contains a space or a line break", hint=_PASTE_AGAIN)
    version, _, rest = text.partition(".")
    if version in _TAKEN_BY and version != expected:
        raise UsageError(
            f"this token was printed by '{_MADE_BY[version]}', not by '{_MADE_BY[expected]}'",
            hint=f"Pass it to '{_TAKEN_BY[version]}', or paste a token of '{_MADE_BY[expected]}' here.",
        )
    if version != expected:
        raise UsageError(
            f"the token's version must be {expected!r}, not {version[:8]!r}",
            hint="Use the same version of drawwell as the broker.",
        )
    parts = rest.rsplit(".", 3)
    if len(parts) != 4 or any(":" in part for part in parts[1:]):
        raise UsageError("the token is incomplete", hint=_PASTE_AGAIN)
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
    return Token(host, port, spki, _encode(invitation), secret, version)


def invitation_name(data: bytes) -> str:
    """Encode `INVITATION_BYTES` random bytes as an invitation's name."""
    return _encode(data)


def secret_hash(secret: bytes) -> bytes:
    """Return the stored form of the secret: its SHA-256, 32 bytes."""
    return hashlib.sha256(secret).digest()


def secret_matches(secret: bytes, stored_hash: bytes) -> bool:
    """Compare a secret with the stored hash, in constant time."""
    return hmac.compare_digest(secret_hash(secret), stored_hash)


def parse_address(text: str) -> tuple[str, int]:
    """Parse ``host:port``, ``192.0.2.1:port`` or ``[2001:db8::1]:port``.

    Raises:
        UsageError: `text` is not such an address.
    """
    host, _, port = text.rpartition(":")
    if not (_PORT.fullmatch(port) and int(port) < 65536 and _is_host(host)):
        raise UsageError(
            "the address is not host:port", hint="Write it as broker.example:55001 or [2001:db8::1]:55001."
        )
    return host.strip("[]"), int(port)


def format_address(host: str, port: int) -> str:
    """Format ``host:port``, with an IPv6 address in brackets."""
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
        raise UsageError(f"the token is incomplete: its {what} is too short", hint=_PASTE_AGAIN)
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if len(data) != size or _encode(data) != text:  # each token has one spelling
        raise UsageError(f"the token's {what} differs from the printed one", hint=_PASTE_AGAIN)
    return data
