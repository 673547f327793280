"""Passwords of the brokers' roles, and their verifiers."""

import base64
import hashlib
import hmac
import secrets
from typing import Final

_ITERATIONS: Final = 4096
"""PostgreSQL's default; the passwords have 256 bits."""


def new_password() -> str:
    """Return a password that cannot be guessed."""
    return secrets.token_urlsafe(32)


def scram_verifier(password: str) -> str:
    """Return an ASCII password's SCRAM-SHA-256 verifier (RFC 5803).

    The server accepts it instead of the password, so its logs never contain the password.
    """
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ITERATIONS)
    client, server = (hmac.digest(salted, name, "sha256") for name in (b"Client Key", b"Server Key"))
    texts = (base64.b64encode(part).decode() for part in (salt, hashlib.sha256(client).digest(), server))
    return "SCRAM-SHA-256${}:{}${}:{}".format(_ITERATIONS, *texts)
