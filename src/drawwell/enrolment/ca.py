"""The broker's side of its CA: server certificates and trusted CAs.

STATE/pki/server.pem enrol.pem      certificates, each with NAME-key.pem (mode 0600)
STATE/pki/authorities.pem           the CAs that issue consumers' certificates
STATE/pki/receipt-keys.pem          all public receipt keys, newest first
"""

import asyncio
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
    """Signs for a broker: a `KeyRing` in this process, or a signer process.

    Times are seconds since 1970; a signer process uses its own clock.

    Raises:
        StateUnavailable: every method raises it for a file error or an unreachable signer.
    """

    def require(self) -> None:
        """Check that signing is possible now; a `KeyRing` in this process passes."""
        return

    def public(self) -> PublicKeys:
        """Return the public keys."""

    def certify(self, csr_pem: bytes, consumer: str, now: float) -> bytes:
        """Issue a consumer's certificate chain; ValueError for an invalid request."""

    def serve(self, csr_pem: bytes, names: Sequence[str], now: float) -> bytes:
        """Issue a server's certificate chain; ValueError for invalid input."""

    def sign(self, texts: Sequence[bytes]) -> list[bytes]:
        """Return signatures (64 bytes) of receipts or heads of the audit log."""

    async def sign_soon(self, texts: Sequence[bytes]) -> list[bytes]:
        """Sign as `sign` does, but in an event loop and for one caller at a time."""
        if len(texts) == 1:
            return self.sign(texts)  # starting a thread takes longer than one signature
        return await asyncio.to_thread(self.sign, texts)

    def close(self) -> None:
        """Close open connections."""
        return


class CertificateAuthority:
    """The CA of one broker, for its doors; thread-safe.

    Args:
        directory: The directory for its files.
        keys: Signs certificates: a `KeyRing` in this process, or a signer process.

    Raises:
        StateUnavailable: a file error, or the signer is unreachable.
    """

    def __init__(self, directory: str, keys: SigningKeys) -> None:
        self._directory = directory
        self._keys = keys
        self._public: PublicKeys | None = None
        self._writing = threading.Lock()
        self.trouble = ""
        """The last error from `keys`, or "" if there was none."""
        make_private_directory(directory)
        try:
            self.refresh()
        except StateUnavailable:
            if not os.path.exists(self._path(AUTHORITIES)):
                raise

    @property
    def public(self) -> PublicKeys:
        """The public keys; same errors as the constructor."""
        if self._public is None:
            self.refresh()
        assert self._public is not None  # noqa: S101  set by refresh
        return self._public

    def refresh(self) -> None:
        """Write the current public keys to files; same errors as the constructor."""
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
        """The SHA-256 of the root's key, for tokens."""
        return pki.spki_sha256(self.public.roots)

    @property
    def authorities(self) -> str:
        """The path of the file of CAs that issue consumers' certificates."""
        return self._path(AUTHORITIES)

    def server_files(self, names: Sequence[str], now: float) -> tuple[str, str]:
        """Return the paths of the TLS door's certificate and key, renewed if due.

        A change of `names` also renews them. Call this daily, and reload the TLS context.

        Raises:
            StateUnavailable: see the constructor.
            ValueError: a name is neither a DNS name nor an IP address.
        """
        return self._files(SERVER, names, now)

    def enrol_files(self, now: float) -> tuple[str, str]:
        """Return the enrolment door's files as `server_files` does."""
        return self._files(ENROL, (ENROL_NAME,), now)

    def rotate_server(self, names: Sequence[str], now: float) -> None:
        """Replace the keys of both doors; same errors as `server_files`."""
        for what, shown in ((SERVER, names), (ENROL, (ENROL_NAME,))):
            with self._writing:
                self._make(what, shown, now)

    def issue_client(self, csr_pem: bytes, consumer: str, now: float) -> bytes:
        """Issue a consumer's certificate chain; same errors as `pki.issue_client`."""
        return self._keys.certify(csr_pem, consumer, now)

    def _files(self, what: str, names: Sequence[str], now: float) -> tuple[str, str]:
        certificate, key = self._path(f"{what}.pem"), self._path(f"{what}-key.pem")
        with self._writing:
            if not self._is_current(certificate, key, names, now):
                self._make(what, names, now)
        return certificate, key

    def _make(self, what: str, names: Sequence[str], now: float) -> None:
        key_pem, csr = pki.new_key_and_csr(what)
        chain = self._keys.serve(csr, names, now)
        replace_file(self._path(f"{what}-key.pem"), key_pem)
        replace_file(self._path(f"{what}.pem"), chain)

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
        """Return the first CA after the roots: the intermediate CA."""
        return pki.pem_blocks(public.authorities)[len(pki.pem_blocks(public.roots))]

    def _replace(self, file: str, data: bytes) -> None:
        path = self._path(file)
        if not os.path.exists(path) or read_file(path) != data:
            replace_file(path, data)

    def _path(self, file: str) -> str:
        return os.path.join(self._directory, file)
