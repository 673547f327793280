"""ECDSA P-256 certificates for one broker and its consumers (RFC 5280).

The module is pure with one exception: `cryptography` takes keys and serial numbers from
OpenSSL's generator. The reservoir is not used, so enrolment works before a source is healthy.

Times are seconds since 1970 (UTC). Certificates, keys and signing requests are PEM bytes, but
a TLS handshake returns DER. Parse errors are ValueErrors that never contain secrets.
"""

import hashlib
import ipaddress
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY_S: Final = 86400.0
CA_LIFETIME_S: Final = 3650 * DAY_S
SERVER_LIFETIME_S: Final = 90 * DAY_S
CLIENT_LIFETIME_S: Final = 7 * DAY_S
BACKDATE_S: Final = DAY_S
"""New certificates are backdated, to be valid even for a peer with a slow clock."""
CA_BACKDATE_S: Final = CA_LIFETIME_S
"""Consumers pin the CA's key, so a later start of validity would only lock them out."""
RENEWAL_POINT: Final = 2 / 3
CSR_LIMIT_BYTES: Final = 8192
RSA_BITS: Final = range(2048, 8193)
"""Smaller keys are weak (SP 800-131A r2, 3); larger keys would slow down the broker."""
CONSUMER_URI: Final = "drawwell://consumer/"
CONSUMER_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}", re.ASCII)

_UNPARSABLE: Final = (
    ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.InvalidVersion,
    x509.UnsupportedGeneralNameType, CryptographyDeprecationWarning,
)  # fmt: skip
# a certificate that a later release of the library refuses is refused now, without a warning
warnings.filterwarnings("error", "Parsed a (negative )?serial", CryptographyDeprecationWarning)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its private key, both in PEM."""

    certificate_pem: bytes
    key_pem: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """The unverified contents of a certificate; `spki_sha256` is 32 bytes."""

    spki_sha256: bytes
    serial: int
    common_name: str
    uris: tuple[str, ...]
    dns_names: tuple[str, ...]
    ip_addresses: tuple[str, ...]
    not_before: float
    not_after: float


def new_ca(name: str, now: float) -> KeyPair:
    """Create a root CA, which certifies intermediate CAs (hierarchy.py)."""
    return _certify_root(f"drawwell root of {name}", ec.generate_private_key(ec.SECP256R1()), now)


def recertify_ca(ca: KeyPair, now: float) -> KeyPair:
    """Create a root certificate for the same key and name, with new dates.

    Raises:
        ValueError: `ca` is not the certificate and key of a CA.
    """
    key = load_private_key(ca.key_pem)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("the CA's key must be P-256 or P-384")  # noqa: TRY004  the file is wrong, not a type
    return _certify_root(read_certificate(ca.certificate_pem).common_name, key, now)


def _certify_root(title: str, key: ec.EllipticCurvePrivateKey, now: float) -> KeyPair:
    builder = certificate_builder(title, key.public_key(), now - CA_BACKDATE_S).issuer_name(_name(title))
    builder = builder.not_valid_after(utc(now + CA_LIFETIME_S))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
    builder = builder.add_extension(key_usage(ca=True), critical=True)
    return KeyPair(encode_certificate(builder.sign(key, hashes.SHA256())), encode_key(key))


def issue_server(ca: KeyPair, csr_pem: bytes, names: Sequence[str], now: float) -> bytes:
    """Certify a signing request's key for DNS names and IP addresses.

    Raises:
        ValueError: there is no name, or the request is invalid (see `issue_client`).
    """
    if not names:
        raise ValueError("a server certificate needs a name")
    subject = certificate_builder(names[0], requested_key(csr_pem), now)
    alternatives = [_general_name(name) for name in names]
    purpose, not_after = ExtendedKeyUsageOID.SERVER_AUTH, now + SERVER_LIFETIME_S
    return _issue(ca, subject, alternatives, purpose=purpose, not_after=not_after)


def issue_client(
    ca: KeyPair, csr_pem: bytes, consumer: str, now: float, lifetime_s: float = CLIENT_LIFETIME_S
) -> bytes:
    """Certify the key in a signing request for `consumer`; ignore all else.

    Raises:
        ValueError: the name is invalid; or the request is malformed, not self-signed, or
            has an unacceptable key.
    """
    if not CONSUMER_NAME.fullmatch(consumer):
        raise ValueError(f"{consumer!r} is not a valid consumer name")
    public_key = requested_key(csr_pem)
    uri = x509.UniformResourceIdentifier(CONSUMER_URI + consumer)
    subject = certificate_builder(consumer, public_key, now)
    return _issue(ca, subject, [uri], purpose=ExtendedKeyUsageOID.CLIENT_AUTH, not_after=now + lifetime_s)


def new_key_and_csr(consumer: str) -> tuple[bytes, bytes]:
    """Create a P-256 key and a signing request for it, both in PEM."""
    key_pem = encode_key(ec.generate_private_key(ec.SECP256R1()))
    return key_pem, csr_for(key_pem, consumer)


def csr_for(key_pem: bytes, consumer: str) -> bytes:
    """Create a signing request for an existing key.

    Raises:
        ValueError: `key_pem` is not a private key that can sign a request.
    """
    key = load_private_key(key_pem)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    request = x509.CertificateSigningRequestBuilder().subject_name(_name(consumer)).sign(key, algorithm)
    return request.public_bytes(serialization.Encoding.PEM)


def csr_spki_sha256(csr_pem: bytes) -> bytes:
    """Return the SHA-256 of a request's key; see `issue_client` for errors."""
    return _spki_sha256(requested_key(csr_pem))


def key_spki_sha256(key_pem: bytes) -> bytes:
    """Return the SHA-256 of a private key's public half.

    Raises:
        ValueError: `key_pem` is not a private key.
    """
    return _spki_sha256(load_private_key(key_pem).public_key())


def spki_sha256(certificate: bytes) -> bytes:
    """Return the SHA-256 of a certificate's public key (RFC 7469, 2.4).

    Raises:
        ValueError: `certificate` is not a certificate.
    """
    return read_certificate(certificate).spki_sha256


def read_certificate(certificate: bytes) -> CertificateFacts:
    """Parse a certificate in PEM or DER.

    Raises:
        ValueError: `certificate` is not a well-formed certificate.
    """
    parsed = _certificate(certificate)
    try:
        names = _alternative_names(parsed)
        common_names = parsed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return CertificateFacts(
            spki_sha256=_spki_sha256(parsed.public_key()),
            serial=parsed.serial_number,
            common_name=str(common_names[0].value) if len(common_names) == 1 else "",
            uris=tuple(names.get_values_for_type(x509.UniformResourceIdentifier)) if names else (),
            dns_names=tuple(names.get_values_for_type(x509.DNSName)) if names else (),
            ip_addresses=tuple(map(str, names.get_values_for_type(x509.IPAddress))) if names else (),
            not_before=_timestamp(parsed, "not_valid_before"),
            not_after=_timestamp(parsed, "not_valid_after"),
        )
    except _UNPARSABLE as error:
        raise ValueError("cannot parse the certificate") from error


def consumer_name(facts: CertificateFacts) -> str | None:
    """Return the consumer that a certificate names, or None.

    The name is in a URI ``drawwell://consumer/NAME``, or else in the common name.
    """
    ours = [uri.removeprefix(CONSUMER_URI) for uri in facts.uris if uri.startswith(CONSUMER_URI)]
    if len(ours) > 1:
        return None
    name = ours[0] if ours else facts.common_name
    return name if CONSUMER_NAME.fullmatch(name) else None


def is_issued_by(certificate: bytes, ca_certificate: bytes) -> bool:
    """Return whether an ECDSA CA signed a certificate, even an expired one.

    Raises:
        ValueError: one of the arguments is not a certificate.
    """
    child, ca = _certificate(certificate), _certificate(ca_certificate)
    try:
        key, algorithm = ca.public_key(), child.signature_hash_algorithm
        if not isinstance(key, ec.EllipticCurvePublicKey) or algorithm is None:
            return False
        key.verify(child.signature, child.tbs_certificate_bytes, ec.ECDSA(algorithm))
    except (InvalidSignature, *_UNPARSABLE):
        return False
    return child.issuer == ca.subject


def covers(certificate: bytes, names: Sequence[str]) -> bool:
    """Return whether a server certificate has exactly these names.

    Raises the same errors as `read_certificate`.
    """
    facts = read_certificate(certificate)
    return {*facts.dns_names, *facts.ip_addresses} == {str(_general_name(name).value) for name in names}


def renewal_due(certificate: bytes, now: float) -> bool:
    """Return whether a certificate has less than a third of its lifetime left.

    A certificate that is not valid yet is also due. See `read_certificate` for errors.
    """
    facts = read_certificate(certificate)
    due = facts.not_before + RENEWAL_POINT * (facts.not_after - facts.not_before)
    return not facts.not_before <= now < due


def pem_blocks(pem: bytes) -> list[bytes]:
    """Split PEM into one or more blocks, without parsing them."""
    begin = b"-----BEGIN "
    return [begin + block for block in pem.split(begin)[1:]] or [pem]


def to_pem(certificate_der: bytes) -> bytes:
    """Convert a DER certificate to PEM; see `read_certificate` for errors."""
    return encode_certificate(_certificate(certificate_der))


# ---- making ------------------------------------------------------------------------------


def _issue(
    ca: KeyPair,
    builder: x509.CertificateBuilder,
    names: Sequence[x509.GeneralName],
    *,
    purpose: x509.ObjectIdentifier,
    not_after: float,
) -> bytes:
    issuer, key = _certificate(ca.certificate_pem), load_private_key(ca.key_pem)
    not_after = min(not_after, _timestamp(issuer, "not_valid_after"))
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    builder = builder.issuer_name(issuer.subject).not_valid_after(utc(not_after))
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(key_usage(ca=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    builder = builder.add_extension(issuer_key, critical=False)
    return encode_certificate(builder.sign(key, hashes.SHA256()))


def certificate_builder(common_name: str, public_key: "PublicKey", now: float) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(utc(now - BACKDATE_S))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)


def key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])]
    )  # ub-common-name: RFC 5280, A.1


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


# ---- reading -----------------------------------------------------------------------------

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey
_PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


def requested_key(csr_pem: bytes) -> PublicKey:
    if len(csr_pem) > CSR_LIMIT_BYTES:
        raise ValueError(f"the signing request is {len(csr_pem)} bytes long; the limit is {CSR_LIMIT_BYTES}")
    try:
        request = x509.load_pem_x509_csr(csr_pem)
        public_key, signed = request.public_key(), request.is_signature_valid
    except _UNPARSABLE as error:
        raise ValueError("cannot parse the signing request") from error
    key = _acceptable(public_key)
    if not signed:
        raise ValueError("the signing request is not signed by its own key")
    return key


def _acceptable(key: object) -> PublicKey:
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
        return key
    if isinstance(key, ed25519.Ed25519PublicKey) or (
        isinstance(key, rsa.RSAPublicKey) and key.key_size in RSA_BITS
    ):
        return key
    raise ValueError("the signing request's key must be P-256, P-384, Ed25519, or RSA of 2048 to 8192 bits")


def _certificate(data: bytes) -> x509.Certificate:
    try:
        certificate = (
            x509.load_pem_x509_certificate(data)
            if data.startswith(b"-----")
            else x509.load_der_x509_certificate(data)
        )
        serial = certificate.serial_number
    except _UNPARSABLE as error:
        raise ValueError("not a certificate") from error
    if serial <= 0:  # RFC 5280, 4.1.2.2
        raise ValueError("not a certificate: its serial number is not positive")
    return certificate


def load_private_key(key_pem: bytes) -> _PrivateKey:
    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
    except _UNPARSABLE as error:
        raise ValueError("not a private key") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey):
        raise ValueError("not a key that can sign certificates")  # noqa: TRY004  the file is at fault
    return key


def _alternative_names(certificate: x509.Certificate) -> x509.SubjectAlternativeName | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None


def _timestamp(certificate: x509.Certificate, which: str) -> float:
    """Read a date in UTC, which lacks a time zone before cryptography 42."""
    date: datetime = getattr(certificate, f"{which}_utc", None) or getattr(certificate, which).replace(
        tzinfo=UTC
    )
    return date.timestamp()


def _spki_sha256(key: object) -> bytes:
    public_bytes = key.public_bytes(  # type: ignore[attr-defined]  # all public keys have this method
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(public_bytes).digest()


def encode_certificate(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def encode_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
