"""The part of OpenPGP (RFC 4880) that verifies a detached RSA signature.

The process with the noise device is privileged and imports only the standard library, so RSA
is plain ``pow``. All numbers here are public, so timing reveals no secrets.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from drawwell.onerng.image import BadSignature

BINARY_DOCUMENT: Final = 0x00
"""Signature type of a detached signature over a file (RFC 4880, 5.2.1)."""
SIGNATURE_TAG: Final = 2
RSA: Final = 1

# RFC 4880, 9.4, and the DigestInfo prefix of each hash (RFC 8017, 9.2 note 1).
_HASHES: Final = {
    2: ("SHA1", "3021300906052b0e03021a05000414"),
    8: ("SHA256", "3031300d060960864801650304020105000420"),
    9: ("SHA384", "3041300d060960864801650304020205000430"),
    10: ("SHA512", "3051300d060960864801650304020305000440"),
}
_CREATION_TIME, _ISSUER, _ISSUER_FINGERPRINT = 2, 16, 33  # RFC 4880, 5.2.3.1; RFC 9580, 5.2.3.35
_UNDERSTOOD: Final = frozenset({_CREATION_TIME, _ISSUER, _ISSUER_FINGERPRINT})


@dataclass(frozen=True, slots=True)
class RsaKey:
    """A version 4 RSA public key: creation time (Unix), modulus, exponent."""

    created: int
    n: int = field(repr=False)
    e: int = 65537

    @property
    def body(self) -> bytes:
        """The body of its public-key packet (RFC 4880, 5.5.2)."""
        return (
            b"\x04" + self.created.to_bytes(4, "big") + bytes([RSA]) + encode_mpi(self.n) + encode_mpi(self.e)
        )

    @property
    def fingerprint(self) -> str:
        """Version 4 fingerprint, 40 upper-case hex digits (RFC 4880, 12.2)."""
        material = b"\x99" + len(self.body).to_bytes(2, "big") + self.body
        return hashlib.sha1(material, usedforsecurity=False).hexdigest().upper()

    @property
    def key_id(self) -> str:
        """The last 16 hex digits of the fingerprint."""
        return self.fingerprint[-16:]


@dataclass(frozen=True, slots=True)
class Signature:
    """A version 4 RSA signature; `issuer` is a key ID, or "" if it names none."""

    kind: int
    hash_name: str
    issuer: str
    hashed: bytes = field(repr=False)
    digest_start: bytes = field(repr=False)
    value: int = field(repr=False)
    hash_id: int = field(repr=False)


def encode_mpi(number: int) -> bytes:
    """Encode a multiprecision integer (RFC 4880, 3.2)."""
    bits = number.bit_length()
    return bits.to_bytes(2, "big") + number.to_bytes((bits + 7) // 8, "big")


def parse_signature(packet: bytes) -> Signature:
    """Parse a single signature packet.

    Raises:
        BadSignature: the packet is not a supported signature, or bytes follow it.
    """
    body = Reader(_signature_body(packet))
    version, kind, algorithm, hash_id = body.take(4)
    if version != 4 or algorithm != RSA or hash_id not in _HASHES:
        raise BadSignature("not a version 4 RSA signature over SHA-1, SHA-256, SHA-384 or SHA-512")
    hashed_area = body.take(body.number(2))
    hashed = bytes((version, kind, algorithm, hash_id)) + len(hashed_area).to_bytes(2, "big") + hashed_area
    unhashed_area = body.take(body.number(2))
    issuer = _judge_subpackets(hashed_area, unhashed_area)
    digest_start = body.take(2)
    value = int.from_bytes(body.take((body.number(2) + 7) // 8), "big")
    if body.left:
        raise BadSignature("extra bytes after the signature")
    return Signature(kind, _HASHES[hash_id][0], issuer, hashed, digest_start, value, hash_id)


def verify(signature: Signature, data: bytes, keys: Sequence[RsaKey]) -> RsaKey:
    """Return the key in `keys` that signed `data` with `signature`.

    Raises:
        BadSignature: another key made the signature, or the data is different.
    """
    candidates = [key for key in keys if signature.issuer in ("", key.key_id)]
    if not candidates:
        raise BadSignature(f"the signature is by key {signature.issuer}, which is not the expected key")
    digest = signature_digest(signature, data)
    if not digest.startswith(signature.digest_start):
        raise BadSignature("the signature is for other data")
    for key in candidates:
        if _padded_digest(signature.hash_id, digest, key.n) == _open(signature.value, key):
            return key
    raise BadSignature("the signature does not match the data")


def signature_digest(signature: Signature, data: bytes) -> bytes:
    """Hash the data, the hashed part and the trailer (RFC 4880, 5.2.4)."""
    trailer = b"\x04\xff" + len(signature.hashed).to_bytes(4, "big")
    return hashlib.new(signature.hash_name, data + signature.hashed + trailer, usedforsecurity=False).digest()


def encoded_digest(hash_id: int, digest: bytes, size_bytes: int) -> int:
    """Encode a digest as a number with EMSA-PKCS1-v1_5 (RFC 8017, 9.2).

    Raises:
        BadSignature: the key is too small for the hash.
    """
    info = bytes.fromhex(_HASHES[hash_id][1]) + digest
    padding = size_bytes - 3 - len(info)
    if padding < 8:
        raise BadSignature("the key is too small for the hash")
    return int.from_bytes(b"\x00\x01" + b"\xff" * padding + b"\x00" + info, "big")


def _padded_digest(hash_id: int, digest: bytes, modulus: int) -> int:
    return encoded_digest(hash_id, digest, (modulus.bit_length() + 7) // 8)


def _open(value: int, key: RsaKey) -> int:
    return pow(value, key.e, key.n) if 0 < value < key.n else -1


class Reader:
    """Takes bytes from the front of a buffer and checks bounds."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """Number of bytes left."""
        return len(self._data) - self._at

    def take(self, size: int) -> bytes:
        """Take `size` bytes; raise BadSignature if there are fewer."""
        if size > self.left:
            raise BadSignature("a length in the signature is larger than the signature")
        self._at += size
        return self._data[self._at - size : self._at]

    def number(self, size: int) -> int:
        """Take a big-endian number of `size` bytes."""
        return int.from_bytes(self.take(size), "big")


def take_packet(reader: Reader) -> tuple[int, bytes]:
    """Take a packet in either format; return tag and body (RFC 4880, 4.2).

    Raises:
        BadSignature: the bytes are not a packet, or its length is missing.
    """
    tag_byte = reader.number(1)
    if not tag_byte & 0x80:
        raise BadSignature("not an OpenPGP packet")
    new_format = tag_byte & 0xC0 == 0xC0
    length = _new_length(reader) if new_format else _old_length(reader, tag_byte & 3)
    return tag_byte & 0x3F if new_format else tag_byte >> 2 & 0x0F, reader.take(length)


def _signature_body(packet: bytes) -> bytes:
    """Return the body of the only packet, which must be a signature."""
    if not packet or not packet[0] & 0x80:
        raise BadSignature("not an OpenPGP signature")
    reader = Reader(packet)
    tag, body = take_packet(reader)
    if tag != SIGNATURE_TAG:
        raise BadSignature("not an OpenPGP signature")
    if reader.left:
        raise BadSignature("not exactly one signature packet")
    return body


def _old_length(reader: Reader, kind: int) -> int:
    if kind == 3:
        raise BadSignature("the signature packet has no length")
    return reader.number(1 << kind)


def _new_length(reader: Reader, largest_first: int = 223) -> int:
    """Read a new-format length (RFC 4880, 4.2.2); refuse partial lengths."""
    first = reader.number(1)
    if first < 192:
        return first
    if first <= largest_first:
        return (first - 192 << 8) + reader.number(1) + 192
    if first == 255:
        return reader.number(4)
    raise BadSignature("the signature uses partial lengths")


def _judge_subpackets(hashed_area: bytes, unhashed_area: bytes) -> str:
    """Return the issuer's key ID; refuse unknown critical subpackets.

    Only the hashed area is signed. The issuer is usually in the unhashed area, so it is only a
    hint.
    """
    hashed = list(_subpackets(hashed_area))
    if not any(kind == _CREATION_TIME and len(value) == 4 for kind, _, value in hashed):
        raise BadSignature("the signature has no creation time")
    issuers = set()
    for kind, critical, value in (*hashed, *_subpackets(unhashed_area)):
        if critical and kind not in _UNDERSTOOD:
            raise BadSignature(f"the signature requires subpacket {kind}, which is unknown")
        if kind in (_ISSUER, _ISSUER_FINGERPRINT):
            issuers.add(value[-8:].hex().upper())
    if len(issuers) > 1:
        raise BadSignature("the signature has more than one issuer")
    return issuers.pop() if issuers else ""


def _subpackets(area: bytes) -> Iterator[tuple[int, bool, bytes]]:
    """Yield each subpacket's type, critical bit and value (RFC 4880, 5.2.3.1)."""
    reader = Reader(area)
    while reader.left:
        length = _new_length(reader, largest_first=254)  # subpackets have no partial lengths
        if length < 1:
            raise BadSignature("the signature has an empty subpacket")
        kind = reader.number(1)
        yield kind & 0x7F, bool(kind & 0x80), reader.take(length - 1)
