"""Receipts: a broker's signed statements about one grant.

A receipt contains an HMAC of the granted bytes. Only the consumer has the HMAC's key, so the
receipt can be published without revealing the bytes. It proves that the broker made the
statements about these bytes, but not that the statements are true.
"""

import hashlib
import hmac
from dataclasses import replace
from typing import Final, Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from drawwell.crypto.receipt_form import (
    ReceiptBody,
    ReceiptSource,
    data_hmac,
    join_receipt,
    parse_receipt,
)
from drawwell.errors import AuthenticationFailed

_P: Final = 2**255 - 19
_ORDER_8: Final = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826

__all__ = [
    "ReceiptBody",
    "ReceiptSigner",
    "ReceiptSource",
    "SignsTexts",
    "check_signature",
    "public_key_id",
    "read_receipt",
    "receipt_key_from_seed",
    "verify_receipt",
]


SMALL_ORDER: Final = frozenset(
    y.to_bytes(32, "little") for y in (0, 1, _ORDER_8, _P - _ORDER_8, _P - 1, _P, _P + 1)
)
"""The points of small order, without the sign of x, as in libsodium's
ge25519_has_small_order.

y = 0 has order 4 with both signs of x; 1 is the neutral element; -1 has order 2; the other two
y have order 8 with both signs; p and p + 1 encode 0 and 1 again. A test computes them.
"""


class SignsTexts(Protocol):
    """Signs heads of the audit log, in this process or another."""

    def sign_text(self, text: bytes) -> bytes:
        """Sign a text that names its format; raise StateUnavailable on failure."""


class ReceiptSigner:
    """The broker's receipt key.

    Args:
        private_key_pem: An Ed25519 private key, PKCS #8 in PEM, without a password.

    Raises:
        ValueError: `private_key_pem` is not such a key.
    """

    def __init__(self, private_key_pem: bytes) -> None:
        try:
            key = load_pem_private_key(private_key_pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise ValueError("not a PEM private key without a password") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError("not an Ed25519 key")  # noqa: TRY004  the file is at fault
        self._key = key
        self.public_key = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self.key_id = _key_id(key.public_key())

    def sign(self, body: ReceiptBody) -> bytes:
        """Sign `body`; return the receipt as sent and as stored in files.

        Raises:
            ValueError: a field of `body` has an invalid value.
        """
        text = replace(body, key_id=self.key_id).checked()
        return join_receipt(text, self.sign_text(text))

    def sign_text(self, text: bytes) -> bytes:
        """Sign a receipt's body or an audit head; each text names its format."""
        return self._key.sign(text)


def receipt_key_from_seed(seed: bytes) -> bytes:
    """Create a receipt key (PEM) from 32 secret bytes (RFC 8032, 5.1.5).

    Raises:
        ValueError: `seed` is not 32 bytes.
    """
    key = Ed25519PrivateKey.from_private_bytes(seed)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def read_receipt(receipt: bytes) -> ReceiptBody:
    """Parse a receipt without verifying it.

    Raises:
        RemoteProtocolError: `receipt` is not a receipt.
    """
    return parse_receipt(receipt)[0]


def verify_receipt(
    receipt: bytes, public_key: bytes, data: bytes | None = None, hmac_key: bytes | None = None
) -> ReceiptBody:
    """Verify a receipt's signature, and `data` if given; return its body.

    Raises:
        RemoteProtocolError: `receipt` is not a receipt.
        AuthenticationFailed: the signature is wrong, or `data` is not the granted bytes.
        ValueError: `public_key` is not an Ed25519 key, or only one of `data` and `hmac_key`
            (32 bytes) was given.
    """
    if (data is None) != (hmac_key is None):
        raise ValueError("supply the granted bytes and the HMAC key together")
    body, signature = parse_receipt(receipt)
    check_signature(public_key, signature, body.encode(), names=f"the receipt's key is {body.key_id}, ")
    if data is not None and hmac_key is not None:
        _check_data(body, data, hmac_key)
    return body


def check_signature(public_key: bytes, signature: bytes, text: bytes, *, names: str = "") -> None:
    """Verify that `public_key` (PEM) signed `text`.

    Raises:
        AuthenticationFailed: the signature is wrong; `names` is part of the message.
        ValueError: `public_key` is not an Ed25519 key.
    """
    key = _public_key(public_key)
    try:
        key.verify(signature, text)
    except InvalidSignature:
        raise AuthenticationFailed(
            f"the signature is wrong: {names}the given key is {_key_id(key)}",
            hint="Supply the key of the broker that signed. If you did, the text was changed.",
        ) from None


def public_key_id(public_key: bytes) -> str:
    """Return the ID by which receipts refer to a public key (PEM).

    Raises:
        ValueError: `public_key` is not an Ed25519 key.
    """
    return _key_id(_public_key(public_key))


def _check_data(body: ReceiptBody, data: bytes, hmac_key: bytes) -> None:
    same = hmac.compare_digest(data_hmac(hmac_key, data), body.data_hmac)
    if not same or len(data) != body.n_bytes:
        raise AuthenticationFailed(
            "the signature is valid, but the receipt is for other data",
            hint="Supply exactly the drawn bytes, and the key of this receipt.",
        )


def _public_key(pem: bytes) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("not a PEM public key") from None
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("not an Ed25519 key")  # noqa: TRY004  the file is at fault
    encoded = bytearray(key.public_bytes(Encoding.Raw, PublicFormat.Raw))
    encoded[31] &= 0x7F  # the sign of x (RFC 8032, 5.1.2)
    if bytes(encoded) in SMALL_ORDER:
        raise ValueError("the key has a small order, so anyone can forge its signatures")
    return key


def _key_id(key: Ed25519PublicKey) -> str:
    """Return 16 bytes of the key's SHA-256 in hexadecimal."""
    encoded = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(encoded).hexdigest()[:32]
