"""False brokers with other certificates of the same CA."""

import asyncio
import ssl
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from drawwell.crypto import pki
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import AuthenticationFailed, DrawwellError
from drawwell.links.tls import TlsLink
from drawwell.testing.waiting import DEADLINE_S
from drawwell.wire.contexts import client_context
from support.certificates import PaperAuthority, server_pair


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> PaperAuthority:
    return PaperAuthority(tmp_path_factory.mktemp("ca"))


def nameless(authority: PaperAuthority, common_name: str) -> tuple[str, str]:
    """Issue a server certificate with a CN and no subjectAltName."""
    key = ec.generate_private_key(ec.SECP256R1())
    ca = authority._pair
    issuer = x509.load_pem_x509_certificate(ca.certificate_pem)
    signer = serialization.load_pem_private_key(ca.key_pem, None)
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    certificate = builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    return keep(authority.folder, common_name, certificate, pki.encode_key(key))


def keep(folder: Path, stem: str, certificate: bytes, key: bytes) -> tuple[str, str]:
    paths = folder / f"{stem}.pem", folder / f"{stem}.key"
    paths[0].write_bytes(certificate)
    paths[1].write_bytes(key)
    return str(paths[0]), str(paths[1])


def against(authority: PaperAuthority, certificate: str, key: str) -> tuple[DrawwellError | None, bytes]:
    """Draw from a server with this certificate; return error and output."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["drawwell/1"])
    context.load_cert_chain(certificate, key)
    said = bytearray()

    async def impostor(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said.extend(await reader.read(100))
        writer.close()

    async def run() -> DrawwellError | None:
        server = await asyncio.start_server(impostor, "127.0.0.1", 0, ssl=context)
        async with server, asyncio.timeout(DEADLINE_S):
            files = authority.client("web01")
            port = server.sockets[0].getsockname()[1]
            link = TlsLink("localhost", port, context=lambda: client_context(*files))
            try:
                await link.draw(8, DrawClass.FULL)
            except DrawwellError as error:
                return error
            return None

    return asyncio.run(run()), bytes(said)


def test_the_impostor_of_these_tests_is_accepted_when_it_is_the_broker(authority) -> None:
    """With the broker's own certificate the consumer sends its HELLO."""
    certificate, key, _ca = authority.server("localhost")
    _error, said = against(authority, certificate, key)
    assert said.startswith(b"\x01")


def test_a_common_name_is_not_a_brokers_name(authority) -> None:
    """Only subjectAltName counts as the name (docs/protocol.md, section 2)."""
    error, said = against(authority, *nameless(authority, "localhost"))
    assert isinstance(error, AuthenticationFailed)
    assert not said


def test_a_brokers_certificate_that_ran_out_is_not_taken(authority) -> None:
    """A consumer checks the dates of the broker's certificate."""
    old = server_pair(authority._pair, ["localhost"], time.time() - pki.SERVER_LIFETIME_S - 1)
    error, said = against(authority, *keep(authority.folder, "old", old.certificate_pem, old.key_pem))
    assert isinstance(error, AuthenticationFailed)
    assert not said


def test_a_consumer_cannot_be_the_broker(authority) -> None:
    """A consumer's certificate is not valid for a server."""
    certificate, key, _ca = authority.client("localhost")
    error, said = against(authority, certificate, key)
    assert isinstance(error, AuthenticationFailed)
    assert not said


def test_the_enrolment_door_is_not_taken_for_the_broker(authority) -> None:
    """The CA's own certificate does not name the broker."""
    ca = authority._pair
    error, said = against(authority, *keep(authority.folder, "as-server", ca.certificate_pem, ca.key_pem))
    assert isinstance(error, AuthenticationFailed)
    assert not said
