"""Intermediate CAs below the root CA, and the signed list of keys.

The root has path length 1, an intermediate CA has path length 0 (RFC 5280, 4.2.1.9). Consumers
pin the root. They learn of new roots and receipt keys from a list signed by a pinned key.
"""

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from drawwell.crypto import pki
from drawwell.errors import AuthenticationFailed

INTERMEDIATE_LIFETIME_S: Final = 90 * pki.DAY_S
KEY_LIST_FORMAT: Final = "drawwell-keys/1"
MOST_KEYS: Final = 256
"""The maximum number of keys of each kind in a list."""
LIST_BYTES: Final = 65_536


def certify_intermediate(root: pki.KeyPair, title: str, key_pem: bytes, now: float) -> pki.KeyPair:
    """Certify an intermediate CA's title and key with a root.

    Raises:
        ValueError: one of the keys cannot sign certificates.
    """
    key = pki.load_private_key(key_pem)
    return pki.KeyPair(_certified(root, title, key.public_key(), now), key_pem)


def certify_request(root: pki.KeyPair, broker: str, csr_pem: bytes, now: float) -> bytes:
    """Certify another broker's CA; see `pki.issue_client` for the errors."""
    key = pki.requested_key(csr_pem)
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ValueError("the key of a CA must be P-256 or P-384")  # noqa: TRY004  the request is wrong
    number = pki.csr_spki_sha256(csr_pem).hex()[:8]
    return _certified(root, f"drawwell CA {number} of {broker}", key, now)


def _certified(root: pki.KeyPair, title: str, key: pki.PublicKey, now: float) -> bytes:
    signer = _ca_key(root)
    issuer = x509.load_pem_x509_certificate(root.certificate_pem)
    builder = pki.certificate_builder(title, key, now).issuer_name(issuer.subject)
    builder = builder.not_valid_after(pki.utc(now + INTERMEDIATE_LIFETIME_S))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(pki.key_usage(ca=True), critical=True)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    certificate = builder.add_extension(identifier, critical=False).sign(signer, hashes.SHA256())
    return pki.encode_certificate(certificate)


def _ca_key(ca: pki.KeyPair) -> ec.EllipticCurvePrivateKey:
    key = pki.load_private_key(ca.key_pem)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("the CA's key must be P-256 or P-384")  # noqa: TRY004  the file is wrong, not a type
    return key


def new_intermediate(root: pki.KeyPair, name: str, now: float) -> pki.KeyPair:
    """Create an intermediate CA with a unique title for the broker `name`."""
    return intermediate_for(root, name, pki.new_key_and_csr(name)[0], now)


def intermediate_for(root: pki.KeyPair, name: str, key_pem: bytes, now: float) -> pki.KeyPair:
    """Certify a key as `new_intermediate` does; raises ValueError."""
    number = pki.key_spki_sha256(key_pem).hex()[:8]
    return certify_intermediate(root, f"drawwell CA {number} of {name}", key_pem, now)


@dataclass(frozen=True, slots=True)
class ReceiptKey:
    """A public receipt key (PEM), and the period during which it signed.

    Times are in seconds since 1970; `until` is 0 for the current key.
    """

    public_key: str
    since: int
    until: int = 0


@dataclass(frozen=True, slots=True)
class KeyList:
    """A broker's roots (PEM) and receipt keys, the current ones first."""

    broker: str
    time_s: int
    roots: tuple[str, ...]
    receipt_keys: tuple[ReceiptKey, ...]

    def sign(self, pairs: Iterable[pki.KeyPair]) -> bytes:
        """Return the list as a document, signed by each CA.

        Raises:
            ValueError: one of the pairs cannot sign a list.
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
            AuthenticationFailed: none of the authorities signed the list.
            ValueError: the document is not a list of keys.
        """
        found, signatures = cls._load(document)
        if not any(found.is_signed_by(ca, signatures) for ca in pki.pem_blocks(authorities)):
            raise AuthenticationFailed(
                "the broker's list of keys is not signed by an authority that this machine has pinned"
            )
        return found

    @classmethod
    def read_own(cls, document: bytes) -> Self:
        """Parse a list from this machine's own file; raises ValueError."""
        found, signatures = cls._load(document)
        if not any(found.is_signed_by(root.encode(), signatures) for root in found.roots):
            raise ValueError("none of the listed roots has signed the list of keys")
        return found

    @classmethod
    def _load(cls, document: bytes) -> tuple[Self, dict[str, Any]]:
        try:
            fields: Any = json.loads(document)
            return cls._parse(fields["list"]), dict(fields["signatures"])
        except (KeyError, TypeError, RecursionError, OverflowError) as error:
            raise ValueError("the document is not a list of keys") from error

    @classmethod
    def _parse(cls, fields: Any) -> Self:
        roots = tuple(str(root) for root in fields["roots"])
        keys = tuple(
            ReceiptKey(str(key["public_key"]), int(key["since"]), int(key["until"]))
            for key in fields["receipt_keys"]
        )
        if not (0 < len(roots) <= MOST_KEYS and len(keys) <= MOST_KEYS):
            raise ValueError("the list of keys has no roots, or too many keys")
        for root in roots:
            pki.read_certificate(root.encode())
        return cls(str(fields["broker"]), int(fields["time_s"]), roots, keys)

    def with_signing(self, public_key: str, now: float) -> tuple[ReceiptKey, ...]:
        """Return the receipt keys, with `public_key` as the current one."""
        known = tuple(
            replace(key, until=0) if key.public_key == public_key else key for key in self.receipt_keys
        )
        if public_key in {key.public_key for key in known}:
            return known
        return (*known, ReceiptKey(public_key, int(now)))

    def with_ended(self, public_key: str, now: float) -> tuple[ReceiptKey, ...]:
        """Return the receipt keys, with `public_key` marked as ended."""
        return tuple(
            replace(key, until=key.until or int(now)) if key.public_key == public_key else key
            for key in self.receipt_keys
        )

    def _text(self) -> bytes:
        fields = {"format": KEY_LIST_FORMAT, **asdict(self)}
        return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()

    def is_signed_by(self, ca: bytes, signatures: Mapping[str, Any]) -> bool:
        """Return whether one of the signatures was made by the key of `ca` (PEM)."""
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
    """A broker's public keys, in PEM except for the list.

    Consumers pin the `roots`; the current one is first. `authorities` are the CAs that the
    broker trusts to issue consumers' certificates. `receipt_key` is the current receipt key.
    `key_list` is a signed `KeyList`.
    """

    roots: bytes = field(repr=False)
    authorities: bytes = field(repr=False)
    receipt_key: bytes = field(repr=False)
    key_list: bytes = field(repr=False)
