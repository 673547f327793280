"""Intermediate CAs below the root CA, and the signed list of keys.

RFC 5280, 4.2.1.9: the root has path length 1, an intermediate CA 0. Consumers pin the root.
They follow its replacement, and that of receipt keys, by a list that a pinned key has signed.
"""

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from drawwell.crypto import pki
from drawwell.errors import AuthenticationFailed

INTERMEDIATE_LIFETIME_S: Final = 90 * pki.DAY_S
KEY_LIST_FORMAT: Final = "drawwell-keys/1"
MOST_KEYS: Final = 16
"""Of each kind in a list."""
LIST_BYTES: Final = 65_536


def certify_intermediate(root: pki.KeyPair, title: str, key_pem: bytes, now: float) -> pki.KeyPair:
    """Certify the CA `title` and its key by a root.

    Raises:
        ValueError: one of the keys cannot sign certificates.
    """
    key, signer = pki.load_private_key(key_pem), _ca_key(root)
    issuer = x509.load_pem_x509_certificate(root.certificate_pem)
    builder = pki.certificate_builder(title, key.public_key(), now).issuer_name(issuer.subject)
    builder = builder.not_valid_after(pki.utc(now + INTERMEDIATE_LIFETIME_S))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(pki.key_usage(ca=True), critical=True)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    certificate = builder.add_extension(identifier, critical=False).sign(signer, hashes.SHA256())
    return pki.KeyPair(pki.encode_certificate(certificate), key_pem)


def _ca_key(ca: pki.KeyPair) -> ec.EllipticCurvePrivateKey:
    key = pki.load_private_key(ca.key_pem)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("not a CA of ours")  # noqa: TRY004  the file is wrong, not a type
    return key


def new_intermediate(root: pki.KeyPair, name: str, now: float) -> pki.KeyPair:
    """Make an intermediate CA of the broker `name`, with a title of its own."""
    key_pem, _ = pki.new_key_and_csr(name)
    number = pki.key_spki_sha256(key_pem).hex()[:8]
    return certify_intermediate(root, f"drawwell CA {number} of {name}", key_pem, now)


@dataclass(frozen=True, slots=True)
class ReceiptKey:
    """A public key of receipts (PEM), and when it signed.

    Times are seconds since 1970; `until` is 0 for the present key.
    """

    public_key: str
    since: int
    until: int = 0


@dataclass(frozen=True, slots=True)
class KeyList:
    """A broker's roots (PEM) and keys of receipts, the present ones first."""

    broker: str
    time_s: int
    roots: tuple[str, ...]
    receipt_keys: tuple[ReceiptKey, ...]

    def sign(self, pairs: Iterable[pki.KeyPair]) -> bytes:
        """Return the list as a document with a signature of each CA.

        Raises:
            ValueError: one is no CA of ours.
        """
        text, signatures = self._text(), {}
        for pair in pairs:
            signature = base64.b64encode(_ca_key(pair).sign(text, ec.ECDSA(hashes.SHA256()))).decode()
            signatures[pki.key_spki_sha256(pair.key_pem).hex()] = signature
        return json.dumps({"list": asdict(self), "signatures": signatures}).encode()

    @classmethod
    def read(cls, document: bytes, authorities: bytes) -> Self:
        """Parse a list, and check that one of the `authorities` (PEM) signed it.

        Raises:
            AuthenticationFailed: none of them did.
            ValueError: it is not a list of keys.
        """
        try:
            fields: Any = json.loads(document)
            found = cls._parse(fields["list"])
            signatures = dict(fields["signatures"])
        except (KeyError, TypeError, RecursionError, OverflowError) as error:
            raise ValueError("it is not a list of keys") from error
        if not any(found.is_signed_by(ca, signatures) for ca in pki.pem_blocks(authorities)):
            raise AuthenticationFailed(
                "no authority that this machine pins has signed the broker's list of keys"
            )
        return found

    @classmethod
    def _parse(cls, fields: Any) -> Self:
        roots = tuple(str(root) for root in fields["roots"])
        keys = tuple(
            ReceiptKey(str(key["public_key"]), int(key["since"]), int(key["until"]))
            for key in fields["receipt_keys"]
        )
        if not (0 < len(roots) <= MOST_KEYS and len(keys) <= MOST_KEYS):
            raise ValueError("it has no roots, or too many keys")
        for root in roots:
            pki.read_certificate(root.encode())
        return cls(str(fields["broker"]), int(fields["time_s"]), roots, keys)

    def _text(self) -> bytes:
        fields = {"format": KEY_LIST_FORMAT, **asdict(self)}
        return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()

    def is_signed_by(self, ca: bytes, signatures: Mapping[str, Any]) -> bool:
        """Return whether the key of a CA (PEM) made one of the signatures."""
        key = x509.load_pem_x509_certificate(ca).public_key()
        signature = signatures.get(pki.spki_sha256(ca).hex())
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(signature, str):
            return False
        try:
            key.verify(base64.b64decode(signature, validate=True), self._text(), ec.ECDSA(hashes.SHA256()))
        except (InvalidSignature, binascii.Error):
            return False
        return True


@dataclass(frozen=True, slots=True)
class PublicKeys:
    """All that a broker shows of its keys, PEM but for the list.

    `roots` are for consumers to pin, the present one first. `authorities` are those that its
    consumers' certificates may lead to. `receipt_key` signs now, `key_list` is a signed
    `KeyList`.
    """

    roots: bytes = field(repr=False)
    authorities: bytes = field(repr=False)
    receipt_key: bytes = field(repr=False)
    key_list: bytes = field(repr=False)
