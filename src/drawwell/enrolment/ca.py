"""The broker's side of its CA: the certificates that its doors show, and what consumers' must lead to.

STATE/pki/server.pem enrol.pem      each with NAME-key.pem (0600, the directory 0700)
STATE/pki/authorities.pem           the CAs of consumers' certificates
STATE/pki/receipt-keys.pem          all public keys of receipts, the newest first
"""

import os
import threading
from collections.abc import Sequence
from typing import Final, Protocol

from drawwell.crypto import pki
from drawwell.crypto.hierarchy import KeyList, PublicKeys
from drawwell.errors import StateUnavailable
from drawwell.state.files import make_private_directory, read_file, read_secret, replace_file
from drawwell.wire.enrolment import ENROL_NAME

SERVER: Final = "server"
ENROL: Final = "enrol"
AUTHORITIES: Final = "authorities.pem"
RECEIPT_KEYS: Final = "receipt-keys.pem"


class SigningKeys(Protocol):
    """What signs for a broker: a `KeyRing` of its own process, or a signer in another.

    Times are seconds since 1970; a signer goes by its own clock.

    Raises:
        StateUnavailable: from every method: files cannot be read or written, or the signer is away.
    """

    def require(self) -> None:
        """Return when it can sign."""

    def public(self) -> PublicKeys:
        """Return what everybody may know."""

    def certify(self, csr_pem: bytes, consumer: str, now: float) -> bytes:
        """Return a consumer's certificate with its chain; ValueError for a bad request."""

    def serve(self, csr_pem: bytes, names: Sequence[str], now: float) -> bytes:
        """Return a server's certificate with its chain; ValueError for a bad request or name."""

    def sign(self, texts: Sequence[bytes]) -> list[bytes]:
        """Sign bodies of receipts and audit heads by the receipt key, 64 bytes for each."""


class CertificateAuthority:
    """The CA of one broker, as its doors need it; any thread.

    Args:
        directory: Where its files are kept.
        keys: Sign certificates: a `KeyRing` of this process, or a signer.

    Raises:
        StateUnavailable: files that cannot be read or written, or the signer is away.
    """

    def __init__(self, directory: str, keys: SigningKeys) -> None:
        self._directory = directory
        self._keys = keys
        self._public: PublicKeys | None = None
        self._writing = threading.Lock()
        self.trouble = ""
        """Why the keys could not be asked, the last time; "" when they could."""
        make_private_directory(directory)
        try:
            self.refresh()
        except StateUnavailable:
            if not os.path.exists(self._path(AUTHORITIES)):
                raise

    @property
    def public(self) -> PublicKeys:
        """What everybody may know of the keys; raises as the constructor."""
        if self._public is None:
            self.refresh()
        assert self._public is not None  # noqa: S101  refresh has raised otherwise
        return self._public

    def refresh(self) -> None:
        """Follow the keys: write what is public of them; raises as the constructor."""
        try:
            public = self._keys.public()
        except StateUnavailable as error:
            self.trouble = str(error)
            raise
        self._public, self.trouble = public, ""
        receipt_keys = KeyList.read(public.key_list, public.roots).receipt_keys
        self._replace(AUTHORITIES, public.authorities)
        self._replace(RECEIPT_KEYS, "".join(key.public_key for key in receipt_keys).encode())

    @property
    def spki_sha256(self) -> bytes:
        """SHA-256 of the root's key, which a token holds."""
        return pki.spki_sha256(self.public.roots)

    @property
    def authorities(self) -> str:
        """The path of the CAs that consumers' certificates lead to."""
        return self._path(AUTHORITIES)

    def server_files(self, names: Sequence[str], now: float) -> tuple[str, str]:
        """Return the paths of the TLS door's certificate and key, renewed when due or when `names` are others.

        Call it again daily, and load the context anew afterwards.

        Raises:
            StateUnavailable: as the constructor.
            ValueError: a name that is neither DNS name nor IP address.
        """
        return self._files(SERVER, names, now)

    def enrol_files(self, now: float) -> tuple[str, str]:
        """Return the same of the enrolment door."""
        return self._files(ENROL, (ENROL_NAME,), now)

    def issue_client(self, csr_pem: bytes, consumer: str, now: float) -> bytes:
        """Certify a consumer's key, with the chain; raises ValueError as `pki.issue_client`."""
        return self._keys.certify(csr_pem, consumer, now)

    def _files(self, what: str, names: Sequence[str], now: float) -> tuple[str, str]:
        certificate, key = self._path(f"{what}.pem"), self._path(f"{what}-key.pem")
        with self._writing:
            if not self._is_current(certificate, key, names, now):
                key_pem, csr = pki.new_key_and_csr(what)
                chain = self._keys.serve(csr, names, now)
                replace_file(key, key_pem)
                replace_file(certificate, chain)
        return certificate, key

    def _is_current(self, certificate: str, key: str, names: Sequence[str], now: float) -> bool:
        if not os.path.exists(certificate):
            return False
        shown = read_file(certificate)
        try:
            return (
                pki.spki_sha256(shown) == pki.key_spki_sha256(read_secret(key))
                and not pki.renewal_due(shown, now)
                and (self._public is None or self._intermediate(self._public) in pki.pem_blocks(shown))
                and pki.covers(shown, names)
            )
        except ValueError:
            return False

    @staticmethod
    def _intermediate(public: PublicKeys) -> bytes:
        """Return the CA of what is shown: it follows the roots."""
        return pki.pem_blocks(public.authorities)[len(pki.pem_blocks(public.roots))]

    def _replace(self, file: str, data: bytes) -> None:
        path = self._path(file)
        if not os.path.exists(path) or read_file(path) != data:
            replace_file(path, data)

    def _path(self, file: str) -> str:
        return os.path.join(self._directory, file)
