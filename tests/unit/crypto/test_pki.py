"""crypto/pki.py: certificates that the CA issues, and those it refuses."""

import shutil
import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.x509.oid import ExtensionOID, NameOID

from drawwell.crypto import pki

NOW = 1_700_000_000.0
SHA256 = hashes.SHA256()
CA = pki.new_ca("well", NOW)
KEY, CSR = pki.new_key_and_csr("web01")
CERTIFICATE = pki.issue_client(CA, CSR, "web01", NOW)


def csr_of(key, algorithm=SHA256, name="root", extensions=()):
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.PEM)


def test_a_client_certificate_names_its_consumer_and_lives_seven_days() -> None:
    """A client certificate has URI and name, and is valid for seven days."""
    facts = pki.read_certificate(CERTIFICATE)

    assert facts.uris == ("drawwell://consumer/web01",)
    assert facts.common_name == "web01"
    assert (facts.not_before, facts.not_after) == (NOW - pki.BACKDATE_S, NOW + 7 * 86400)
    assert pki.consumer_name(facts) == "web01"


def test_the_consumer_is_the_invitations_and_not_the_requests() -> None:
    """A request's subject and extensions cannot claim another name or a CA."""
    wishes = (
        x509.BasicConstraints(ca=True, path_length=None),
        x509.SubjectAlternativeName([x509.UniformResourceIdentifier("drawwell://consumer/root")]),
    )
    csr = csr_of(ec.generate_private_key(ec.SECP256R1()), extensions=wishes)

    certificate = x509.load_pem_x509_certificate(pki.issue_client(CA, csr, "web01", NOW))

    assert pki.consumer_name(pki.read_certificate(pki.encode_certificate(certificate))) == "web01"
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()),
        (ec.generate_private_key(ec.SECP384R1()), hashes.SHA384()),
        (ed25519.Ed25519PrivateKey.generate(), None),
        (rsa.generate_private_key(65537, 2048), hashes.SHA256()),
    ],
    ids=["p256", "p384", "ed25519", "rsa2048"],
)
def test_good_keys_are_certified(key, algorithm) -> None:
    """P-256, P-384, Ed25519 and RSA-2048 keys are accepted."""
    csr = csr_of(key, algorithm)

    assert pki.spki_sha256(pki.issue_client(CA, csr, "web01", NOW)) == pki.csr_spki_sha256(csr)


@pytest.mark.parametrize(
    "key",
    [rsa.generate_private_key(65537, 1024), ec.generate_private_key(ec.SECP521R1())],
    ids=["rsa1024", "p521"],
)
def test_other_keys_are_refused(key) -> None:
    """A short RSA key and an unlisted curve are refused."""
    with pytest.raises(ValueError, match="must be P-256"):
        pki.issue_client(CA, csr_of(key), "web01", NOW)


def test_a_request_not_signed_by_its_key_is_refused() -> None:
    """A request signed by another key is refused."""
    other = x509.load_pem_x509_csr(csr_of(ec.generate_private_key(ec.SECP256R1())))
    mine = x509.load_pem_x509_csr(CSR)
    der = mine.public_bytes(serialization.Encoding.DER).replace(
        mine.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
        other.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
    )
    forged = x509.load_der_x509_csr(der).public_bytes(serialization.Encoding.PEM)

    with pytest.raises(ValueError, match="not signed by its own key"):
        pki.issue_client(CA, forged, "web01", NOW)


@pytest.mark.parametrize(
    "csr",
    [b"", b"nonsense", CSR[:200], CERTIFICATE, b"-" * 8193],
    ids=["empty", "nonsense", "cut", "certificate", "long"],
)
def test_a_malformed_request_is_refused(csr) -> None:
    """Anything except a signing request raises ValueError."""
    with pytest.raises(ValueError, match="signing request"):
        pki.issue_client(CA, csr, "web01", NOW)


@pytest.mark.parametrize("name", ["", "Web01", "-web", "web 01", "../root", "a" * 64, "wéb", "web01\n"])
def test_bad_consumer_names_are_refused(name) -> None:
    """A name has 1 to 63 of a-z, 0-9, ._- and starts with a letter or digit."""
    with pytest.raises(ValueError, match="not a valid consumer name"):
        pki.issue_client(CA, CSR, name, NOW)


def test_a_certificate_never_outlives_its_ca() -> None:
    """In the CA's last week a client certificate expires with the CA."""
    late = NOW + pki.CA_LIFETIME_S - 1000

    assert pki.read_certificate(pki.issue_client(CA, CSR, "web01", late)).not_after == NOW + pki.CA_LIFETIME_S


def test_issued_by_distinguishes_our_ca_from_another_of_the_same_name() -> None:
    """A certificate is issued by its own CA, not by another with that name."""
    assert pki.is_issued_by(CERTIFICATE, CA.certificate_pem)
    assert not pki.is_issued_by(CERTIFICATE, pki.new_ca("well", NOW).certificate_pem)


def test_renewal_is_due_at_two_thirds_of_life() -> None:
    """Renewal is due after exactly two thirds of a certificate's life."""
    facts = pki.read_certificate(CERTIFICATE)
    due = facts.not_before + (facts.not_after - facts.not_before) * 2 / 3

    assert not pki.renewal_due(CERTIFICATE, due - 1)
    assert pki.renewal_due(CERTIFICATE, due + 1)


def test_der_and_pem_say_the_same() -> None:
    """DER and PEM contain the same facts; the key hash is the certificate's."""
    der = x509.load_pem_x509_certificate(CERTIFICATE).public_bytes(serialization.Encoding.DER)

    assert pki.read_certificate(der) == pki.read_certificate(CERTIFICATE)
    assert pki.to_pem(der) == CERTIFICATE
    assert pki.key_spki_sha256(KEY) == pki.spki_sha256(CERTIFICATE)


@pytest.mark.parametrize(
    "data",
    [b"", b"-----BEGIN CERTIFICATE-----\n", b"\x30\x82", CSR, b"\xff" * 99],
    ids=["empty", "begun", "der", "request", "bytes"],
)
def test_what_is_no_certificate_is_a_value_error(data) -> None:
    """Bytes that are not a certificate raise only ValueError."""
    with pytest.raises(ValueError, match="not a certificate"):
        pki.read_certificate(data)


def test_a_serial_number_that_is_not_positive_is_refused() -> None:
    """A negative serial number (RFC 5280, 4.1.2.2) raises ValueError."""
    der = x509.load_pem_x509_certificate(CERTIFICATE).public_bytes(serialization.Encoding.DER)
    length = pki.read_certificate(der).serial.bit_length() // 8 + 1
    at = der.index(bytes((2, length))) + 2

    with pytest.raises(ValueError, match="not a certificate"):
        pki.read_certificate(der[:at] + b"\x80" + der[at + 1 :])


def test_two_consumer_uris_name_no_consumer() -> None:
    """Two consumer URIs are invalid, whatever the common name."""
    uris = ("drawwell://consumer/a", "drawwell://consumer/b")

    assert pki.consumer_name(pki.CertificateFacts(b"", 1, "a", uris, (), (), 0, 1)) is None


def test_the_common_name_counts_without_a_consumer_uri() -> None:
    """Without a consumer URI, a valid common name is the consumer's name."""
    assert (
        pki.consumer_name(pki.CertificateFacts(b"", 1, "web01", ("spiffe://x/y",), (), (), 0, 1)) == "web01"
    )
    assert pki.consumer_name(pki.CertificateFacts(b"", 1, "Web 01", (), (), (), 0, 1)) is None


def test_a_key_pair_hides_its_key() -> None:
    """The repr of a key pair contains the certificate but not the key."""
    assert "PRIVATE" not in repr(CA)


def test_a_server_certificate_covers_its_names_and_no_others() -> None:
    """A server certificate covers exactly its names, in any spelling."""
    certificate = pki.issue_server(CA, CSR, ["well", "127.0.0.1", "::1"], NOW)

    assert pki.covers(certificate, ["0:0::1", "well", "127.0.0.1"])
    assert not pki.covers(certificate, ["well"])
    assert not pki.covers(certificate, ["well", "127.0.0.1", "::1", "other"])


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_openssl_accepts_the_chain_strictly(tmp_path) -> None:
    """OpenSSL's strict check accepts both kinds of certificate, by purpose."""
    server = pki.issue_server(CA, CSR, ["well", "127.0.0.1", "::1"], NOW)
    for name, pem in (
        ("ca", CA.certificate_pem),
        ("client", CERTIFICATE),
        ("server", server),
    ):
        (tmp_path / f"{name}.pem").write_bytes(pem)

    def verify(purpose: str, name: str) -> bool:
        command = ["openssl", "verify", "-x509_strict", "-attime", str(int(NOW)), "-purpose", purpose]
        command += ["-CAfile", str(tmp_path / "ca.pem"), str(tmp_path / f"{name}.pem")]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    verdicts = {(p, n): verify(p, n) for p in ("sslclient", "sslserver") for n in ("client", "server")}

    assert verdicts == {
        ("sslclient", "client"): True,
        ("sslclient", "server"): False,
        ("sslserver", "client"): False,
        ("sslserver", "server"): True,
    }


def self_signed(key, *extensions):
    now, name = datetime.fromtimestamp(NOW, UTC), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key, SHA256).public_bytes(serialization.Encoding.PEM)


def test_a_server_certificate_needs_a_name() -> None:
    """Without a name there is no server certificate."""
    with pytest.raises(ValueError, match="needs a name"):
        pki.issue_server(CA, CSR, [], NOW)


def test_an_issuer_has_an_ecdsa_key() -> None:
    """A CA with another kind of key cannot issue certificates."""
    assert pki.is_issued_by(CERTIFICATE, CA.certificate_pem)
    assert not pki.is_issued_by(CERTIFICATE, self_signed(rsa.generate_private_key(65537, 2048)))


def test_a_broken_extension_makes_a_certificate_unreadable() -> None:
    """A certificate whose alternative names do not parse raises ValueError."""
    broken = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, b"no sequence")
    with pytest.raises(ValueError, match="cannot parse"):
        pki.read_certificate(self_signed(ec.generate_private_key(ec.SECP256R1()), broken))


@pytest.mark.parametrize(
    ("key", "reason"),
    [(b"no key", "not a private key"), (x25519.X25519PrivateKey.generate(), "not a key that can sign")],
)
def test_a_file_that_holds_no_signing_key_is_refused(key, reason) -> None:
    """A request needs a key that can sign it."""
    if not isinstance(key, bytes):
        key = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    with pytest.raises(ValueError, match=reason):
        pki.csr_for(key, "web01")
