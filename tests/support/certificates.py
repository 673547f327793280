"""A CA on disk for tests, with the same files as an operator's."""

import time
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from drawwell.crypto import pki
from drawwell.enrolment.ca import CertificateAuthority
from drawwell.enrolment.key_ring import KeyRing


def own_authority(directory: str, now: float) -> CertificateAuthority:
    """Return the CA of a broker that keeps its keys in its own process."""
    return CertificateAuthority(directory, KeyRing(directory, "well", now))


def server_pair(ca: pki.KeyPair, names: Sequence[str], now: float) -> pki.KeyPair:
    """Return a new server key and its certificate."""
    key, request = pki.new_key_and_csr(names[0])
    return pki.KeyPair(pki.issue_server(ca, request, names, now), key)


class PaperAuthority:
    """A CA that writes ``ca.pem`` and issued certificates into `folder`."""

    def __init__(self, folder: Path, name: str = "test", left_s: float = pki.CA_LIFETIME_S) -> None:
        self.folder = folder
        self._pair = pki.new_ca(name, time.time() + left_s - pki.CA_LIFETIME_S)
        self.ca = str(self._write(f"{name}-ca.pem", self._pair.certificate_pem))

    def server(self, *names: str, left_s: float = pki.SERVER_LIFETIME_S) -> tuple[str, str, str]:
        """Issue a broker's certificate; return paths of certificate, key and CA."""
        pair = server_pair(self._pair, names, time.time() + left_s - pki.SERVER_LIFETIME_S)
        certificate = self._write(f"{names[0]}.pem", pair.certificate_pem)
        return str(certificate), str(self._write(f"{names[0]}.key", pair.key_pem)), self.ca

    def client(self, consumer: str, *, ran_out_s_ago: float | None = None) -> tuple[str, str, str]:
        """Issue a consumer's certificate; return the same paths as `server`."""
        key, request = pki.new_key_and_csr(consumer)
        lifetime_s = pki.CLIENT_LIFETIME_S
        issued_at = time.time() - (0 if ran_out_s_ago is None else lifetime_s + ran_out_s_ago)
        certificate = pki.issue_client(self._pair, request, consumer, issued_at, lifetime_s)
        stem = f"{consumer}-{ran_out_s_ago}"
        return str(self._write(f"{stem}.pem", certificate)), str(self._write(f"{stem}.key", key)), self.ca

    def workload(self, *uris: str) -> tuple[str, str, str]:
        """Issue a client certificate with these URIs; return the same paths."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = pki.certificate_builder("workload", key.public_key(), time.time())
        names = [x509.UniformResourceIdentifier(uri) for uri in uris]
        purpose, end = ExtendedKeyUsageOID.CLIENT_AUTH, time.time() + pki.DAY_S
        certificate = pki._issue(self._pair, builder, names, purpose=purpose, not_after=end)
        stem = uris[0].replace("/", "-")
        paths = self._write(f"{stem}.pem", certificate), self._write(f"{stem}.key", pki.encode_key(key))
        return str(paths[0]), str(paths[1]), self.ca

    def _write(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.touch(0o600)
        path.write_bytes(data)
        return path
