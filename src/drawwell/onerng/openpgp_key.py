"""Public keys as exported by GnuPG (RFC 4880, 5.5, 6.2).

The operator's file is trusted, so the signatures that bind subkeys to the key are not checked.
"""

import base64
import binascii
from typing import Final

from drawwell.onerng.image import BadSignature
from drawwell.onerng.openpgp import RSA, Reader, RsaKey, take_packet
from drawwell.onerng.verify import SIMULATOR, VENDOR, Signer

MAX_KEY_BYTES: Final = 65_536
"""The vendor's key has 3,100 bytes."""
_BEGIN: Final = b"-----BEGIN PGP PUBLIC KEY BLOCK-----"
_END: Final = b"-----END PGP PUBLIC KEY BLOCK-----"
_PUBLIC_KEY, _SUBKEY, _SECRET_KEY = 6, 14, 5


def signer_of(data: bytes) -> Signer:
    """Return the signer from a file: an RSA key and subkeys, armoured or not.

    The vendor and the published test key keep their own names as signers.

    Raises:
        BadSignature: the file has no such key.
    """
    if len(data) > MAX_KEY_BYTES:
        raise BadSignature(f"{len(data)} bytes are not a key")
    reader = Reader(_unarmoured(data))
    keys: list[RsaKey] = []
    while reader.left:
        tag, body = take_packet(reader)
        if tag == _SECRET_KEY:
            raise BadSignature("it is a secret key; the public key is required")
        if (tag == _PUBLIC_KEY) is bool(keys) and tag in {_PUBLIC_KEY, _SUBKEY}:
            raise BadSignature("it contains more than one key" if keys else "it has a subkey without its key")
        if tag == _PUBLIC_KEY or (tag == _SUBKEY and _is_rsa(body)):
            keys.append(_rsa_key(body))
    if not keys:
        raise BadSignature("it contains no OpenPGP public key")
    known = next((each for each in (VENDOR, SIMULATOR) if each.primary == keys[0]), None)
    return known or Signer("key of the configuration", keys[0], tuple(keys[1:]))


def _unarmoured(data: bytes) -> bytes:
    _, begin, rest = data.partition(_BEGIN)
    if not begin:
        return data
    block, end, _ = rest.partition(_END)
    _, _, body = block.replace(b"\r\n", b"\n").partition(b"\n\n")
    lines = [line.strip() for line in body.split(b"\n")]
    text = b"".join(line for line in lines if not line.startswith(b"="))  # "=" starts the checksum
    try:
        found = base64.b64decode(text, validate=True)
    except binascii.Error:
        found = b""
    if not end or not found:
        raise BadSignature("the ASCII-armoured key is incomplete")
    return found


def _is_rsa(body: bytes) -> bool:
    return len(body) > 5 and body[0] == 4 and body[5] == RSA


def _rsa_key(body: bytes) -> RsaKey:
    if not _is_rsa(body):
        raise BadSignature("it is not a version 4 RSA key")
    reader = Reader(body[1:])
    created = reader.number(4)
    reader.take(1)
    n, e = (int.from_bytes(reader.take((reader.number(2) + 7) // 8), "big") for _ in range(2))
    if n.bit_length() < 2048 or e < 3 or reader.left:
        raise BadSignature("the RSA key has less than 2,048 bits, or extra bytes")
    return RsaKey(created=created, n=n, e=e)
