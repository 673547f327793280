"""Receipts: what the broker claims about one grant, signed.

A receipt holds an HMAC of the granted bytes under a key that only that consumer got: it may be shown to
anybody, and the bytes need not be. It proves who said it and about which bytes. That the broker is honest it
does not prove.
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
"""The eight points of small order, without the sign of x: both signs of 0 have order 4, 1 is the neutral element,
-1 has order 2, the other two y with both signs order 8; p and p + 1 are 0 and 1 written otherwise. As libsodium's
ge25519_has_small_order has them; the test computes them."""


class SignsTexts(Protocol):
    """What signs audit heads for a broker: a `ReceiptSigner`, or one whose key is elsewhere."""

    def sign_text(self, text: bytes) -> bytes:
        """Sign a text that names its own format; StateUnavailable when that cannot be done now."""


class ReceiptSigner:
    """The broker's receipt key.

    Args:
        private_key_pem: An Ed25519 private key, PKCS #8 in PEM, without a password.

    Raises:
        ValueError: it is not one.
    """

    def __init__(self, private_key_pem: bytes) -> None:
        try:
            key = load_pem_private_key(private_key_pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise ValueError("not a private key in PEM without a password") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError("not an Ed25519 key")  # noqa: TRY004  it is the file that is wrong
        self._key = key
        self.public_key = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self.key_id = _key_id(key.public_key())

    def sign(self, body: ReceiptBody) -> bytes:
        """Return the receipt for `body`, as it goes over the wire and into a file.

        Raises:
            ValueError: `body` says something that a receipt cannot say.
        """
        text = replace(body, key_id=self.key_id).checked()
        return join_receipt(text, self.sign_body(text))

    def sign_body(self, body: bytes) -> bytes:
        """Sign a receipt's canonical body, which names this key."""
        return self._key.sign(body)

    def sign_text(self, text: bytes) -> bytes:
        """Sign a text that cannot be taken for a receipt: it names its own format."""
        return self._key.sign(text)


def receipt_key_from_seed(seed: bytes) -> bytes:
    """Make a receipt key, as PEM, of 32 secret bytes (RFC 8032, 5.1.5).

    Raises:
        ValueError: `seed` is not 32 bytes.
    """
    key = Ed25519PrivateKey.from_private_bytes(seed)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def read_receipt(receipt: bytes) -> ReceiptBody:
    """Read a receipt without checking anything that it says.

    Raises:
        RemoteProtocolError: it is not a receipt.
    """
    return parse_receipt(receipt)[0]


def verify_receipt(
    receipt: bytes, public_key: bytes, data: bytes | None = None, hmac_key: bytes | None = None
) -> ReceiptBody:
    """Return what a receipt says when `public_key` (PEM) signed it, and for `data` when that is given.

    Raises:
        RemoteProtocolError: it is not a receipt.
        AuthenticationFailed: the signature is wrong, or `data` is not what was granted.
        ValueError: `public_key` is no Ed25519 key, or only one of `data` and `hmac_key` (32 bytes) is given.
    """
    if (data is None) != (hmac_key is None):
        raise ValueError("the granted bytes and their HMAC key are checked together")
    body, signature = parse_receipt(receipt)
    check_signature(public_key, signature, body.encode(), names=f"the receipt names key {body.key_id}, ")
    if data is not None and hmac_key is not None:
        _check_data(body, data, hmac_key)
    return body


def check_signature(public_key: bytes, signature: bytes, text: bytes, *, names: str = "") -> None:
    """Return when `public_key` (PEM) signed `text`.

    Raises:
        AuthenticationFailed: it did not; `names` goes into the message.
        ValueError: it is no Ed25519 key.
    """
    key = _public_key(public_key)
    try:
        key.verify(signature, text)
    except InvalidSignature:
        raise AuthenticationFailed(
            f"the signature is wrong: {names}the key given is {_key_id(key)}",
            hint="Use the receipt key of the broker that signed; with that one, the text was changed.",
        ) from None


def public_key_id(public_key: bytes) -> str:
    """Return the id by which receipts name a public key (PEM).

    Raises:
        ValueError: it is no Ed25519 key.
    """
    return _key_id(_public_key(public_key))


def _check_data(body: ReceiptBody, data: bytes, hmac_key: bytes) -> None:
    same = hmac.compare_digest(data_hmac(hmac_key, data), body.data_hmac)
    if not same or len(data) != body.n_bytes:
        raise AuthenticationFailed(
            "the signature is right, but the data is not what this receipt is for",
            hint="Give the bytes as they were drawn, and the key that came with this receipt.",
        )


def _public_key(pem: bytes) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("not a public key in PEM") from None
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("not an Ed25519 key")  # noqa: TRY004  it is the file that is wrong
    encoded = bytearray(key.public_bytes(Encoding.Raw, PublicFormat.Raw))
    encoded[31] &= 0x7F  # the sign of x (RFC 8032, 5.1.2)
    if bytes(encoded) in SMALL_ORDER:
        raise ValueError("a key of small order, for which anyone can sign anything")
    return key


def _key_id(key: Ed25519PublicKey) -> str:
    """Return the first 16 bytes of SHA-256 over the key as SubjectPublicKeyInfo, in hexadecimal."""
    encoded = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(encoded).hexdigest()[:32]
