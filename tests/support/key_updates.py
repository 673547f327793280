"""TLS 1.3 key-update records, which the ssl module cannot send.

The secret comes from the key log of a connection that Python's ssl module opened.
"""

import hashlib
import hmac
import ssl
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_KEY_UPDATE: Final = b"\x18\x00\x00\x01\x00" + b"\x16"
"""KeyUpdate without a request (RFC 8446, section 4.6.3), and the inner type."""
_HEADER: Final = b"\x17\x03\x03" + (len(_KEY_UPDATE) + 16).to_bytes(2, "big")


def client_secret(log: Path, link: ssl.SSLSocket) -> bytes:
    """Return the newest client secret in the key log.

    Exit unless `link` uses AES-256-GCM with SHA-384.
    """
    if link.cipher()[0] != "TLS_AES_256_GCM_SHA384":  # type: ignore[index]  # it is connected
        raise SystemExit(f"the attack is written for AES-256-GCM, not {link.cipher()}")
    lines = [line.split() for line in log.read_text().splitlines()]
    return bytes.fromhex([line[2] for line in lines if line[0] == "CLIENT_TRAFFIC_SECRET_0"][-1])


def key_updates(secret: bytes, sequence: int, count: int) -> bytes:
    """Return `count` records, each encrypted with the previous record's key.

    `sequence` is the number of records already sent under `secret`.
    """
    records = bytearray()
    for _ in range(count):
        key, iv = _expanded(secret, b"key", 32), _expanded(secret, b"iv", 12)
        nonce = (int.from_bytes(iv, "big") ^ sequence).to_bytes(12, "big")
        records += _HEADER + AESGCM(key).encrypt(nonce, _KEY_UPDATE, _HEADER)
        secret, sequence = _expanded(secret, b"traffic upd", 48), 0
    return bytes(records)


def _expanded(secret: bytes, label: bytes, n_bytes: int) -> bytes:
    """Derive a key by HKDF-Expand-Label without context, at most one block.

    RFC 8446, section 7.1.
    """
    label = b"tls13 " + label
    info = n_bytes.to_bytes(2, "big") + bytes([len(label)]) + label + b"\x00" + b"\x01"
    return hmac.digest(secret, info, hashlib.sha384)[:n_bytes]
