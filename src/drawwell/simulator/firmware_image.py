"""Firmware images in the vendor's format, signed with the test key.

They are for the simulated device and for testing verifiers, never for verification.
"""

import base64
import hashlib
from functools import lru_cache
from typing import Final

from drawwell.onerng import published_test_key
from drawwell.onerng.image import HEADER_BYTES, IMAGE_BYTES, MAGIC, end_area_bytes, signature_room
from drawwell.onerng.openpgp import BINARY_DOCUMENT, RSA, encode_mpi, encoded_digest

_SHA256: Final = 8
_POSITIVE_CERTIFICATION: Final = 0x13
_TEXT_SIZE: Final = 0x5A5A
"""Size of the code in the simulated header."""


def assemble_dump(signed: bytes, signature: bytes, *, version: int, text_size: int = _TEXT_SIZE) -> bytes:
    """Assemble header, signed data and signature as ``cmdX`` sends them.

    Raises:
        ValueError: the parts do not fit the layout of `version`.
    """
    if len(signed) != IMAGE_BYTES - end_area_bytes(version) or len(signature) > signature_room(version):
        raise ValueError(f"the parts do not fit the layout of an image of version {version}")
    header = MAGIC + _little(IMAGE_BYTES, 3) + _little(version, 2) + _little(text_size, 2)
    whole = header + signed + _little(len(signature), 2) + signature
    return whole.ljust(HEADER_BYTES + IMAGE_BYTES, b"\xff")


def simulated_code(version: int) -> bytes:
    """Return the signed part of the image: fixed bytes that look random."""
    label = f"drawwell simulated OneRNG firmware, version {version}".encode("ascii")
    return hashlib.shake_128(label).digest(IMAGE_BYTES - end_area_bytes(version))


@lru_cache(maxsize=4)
def simulated_dump(version: int = 3) -> bytes:
    """Return a dump of 262,157 bytes, signed by the published test key."""
    signed = simulated_code(version)
    return assemble_dump(signed, sign(signed), version=version)


def sign(data: bytes) -> bytes:
    """Sign `data` with the published test key (RSA-2048, SHA-256), detached."""
    return _signature(BINARY_DOCUMENT, data, b"")


def export_public_key() -> str:
    """Return the test key in ASCII armour for GnuPG, self-signed."""
    key, user_id = published_test_key.PUBLIC.body, published_test_key.USER_ID.encode("ascii")
    certified = (
        b"\x99" + _big(len(key), 2) + key + b"\xb4" + _big(len(user_id), 4) + user_id
    )  # RFC 4880, 5.2.4
    key_flags = b"\x02\x1b\x03"  # certify and sign (RFC 4880, 5.2.3.21)
    packets = (
        _packet(6, key) + _packet(13, user_id) + _signature(_POSITIVE_CERTIFICATION, certified, key_flags)
    )
    return _armour(packets)


def _signature(kind: int, data: bytes, subpackets: bytes) -> bytes:
    key = published_test_key.PUBLIC
    hashed_area = b"\x05\x02" + _big(published_test_key.CREATED, 4) + subpackets
    hashed = bytes([4, kind, RSA, _SHA256]) + _big(len(hashed_area), 2) + hashed_area
    digest = hashlib.sha256(data + hashed + b"\x04\xff" + _big(len(hashed), 4)).digest()
    padded = encoded_digest(_SHA256, digest, (key.n.bit_length() + 7) // 8)
    value = pow(padded, published_test_key.PUBLISHED_PRIVATE_EXPONENT, key.n)
    unhashed_area = b"\x09\x10" + bytes.fromhex(key.key_id)
    return _packet(2, hashed + _big(len(unhashed_area), 2) + unhashed_area + digest[:2] + encode_mpi(value))


def _packet(tag: int, body: bytes) -> bytes:
    """Wrap a body in an old-format packet with a two-byte length."""
    return bytes([0x80 | tag << 2 | 1]) + _big(len(body), 2) + body


def _armour(packets: bytes) -> str:
    """Return a public key in ASCII armour (RFC 4880, 6.2)."""
    text = base64.b64encode(packets).decode("ascii")
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    check = base64.b64encode(_big(_crc24(packets), 3)).decode("ascii")
    head, foot = "-----BEGIN PGP PUBLIC KEY BLOCK-----", "-----END PGP PUBLIC KEY BLOCK-----"
    return "\n".join((head, f"Comment: {published_test_key.USER_ID}", "", *lines, f"={check}", foot, ""))


def _crc24(data: bytes) -> int:
    """Return the checksum of ASCII armour (RFC 4880, 6.1)."""
    crc = 0xB704CE
    for byte in data:
        crc ^= byte << 16
        for _ in range(8):
            crc = crc << 1 ^ (0x1864CFB if crc & 0x800000 else 0)
    return crc & 0xFFFFFF


def _big(number: int, size: int) -> bytes:
    return number.to_bytes(size, "big")


def _little(number: int, size: int) -> bytes:
    return number.to_bytes(size, "little")
