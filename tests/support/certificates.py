"""A CA on disk for tests: files as an operator would have them."""

import time
from collections.abc import Sequence
from pathlib import Path

from drawwell.crypto import pki
from drawwell.enrolment.ca import CertificateAuthority
from drawwell.enrolment.key_ring import KeyRing


def own_authority(directory: str, now: float) -> CertificateAuthority:
    """The authority of a broker that holds its keys itself, in one directory with them."""
    return CertificateAuthority(directory, KeyRing(directory, "well", now))


def server_pair(ca: pki.KeyPair, names: Sequence[str], now: float) -> pki.KeyPair:
    """A server's certificate and its new key."""
    key, request = pki.new_key_and_csr(names[0])
    return pki.KeyPair(pki.issue_server(ca, request, names, now), key)


class PaperAuthority:
    """Writes ``ca.pem`` and what it issues into `folder`."""

    def __init__(self, folder: Path, name: str = "test") -> None:
        self.folder = folder
        self._pair = pki.new_ca(name, time.time())
        self.ca = str(self._write(f"{name}-ca.pem", self._pair.certificate_pem))

    def server(self, *names: str) -> tuple[str, str, str]:
        """Issue a broker's certificate; return the paths of certificate, key and CA."""
        pair = server_pair(self._pair, names, time.time())
        certificate = self._write(f"{names[0]}.pem", pair.certificate_pem)
        return str(certificate), str(self._write(f"{names[0]}.key", pair.key_pem)), self.ca

    def client(self, consumer: str, *, ran_out_s_ago: float | None = None) -> tuple[str, str, str]:
        """Issue a consumer's certificate; return the paths of certificate, key and CA."""
        key, request = pki.new_key_and_csr(consumer)
        lifetime_s = pki.CLIENT_LIFETIME_S
        issued_at = time.time() - (0 if ran_out_s_ago is None else lifetime_s + ran_out_s_ago)
        certificate = pki.issue_client(self._pair, request, consumer, issued_at, lifetime_s)
        stem = f"{consumer}-{ran_out_s_ago}"
        return str(self._write(f"{stem}.pem", certificate)), str(self._write(f"{stem}.key", key)), self.ca

    def _write(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.touch(0o600)
        path.write_bytes(data)
        return path
