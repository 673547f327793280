"""The broker's mini-CA on disk: its certificate and key, and the certificate that the TLS door shows.

STATE/pki/ca.pem ca-key.pem server.pem server-key.pem      keys 0600 in a directory of 0700
"""

import os
from collections.abc import Sequence
from typing import Final

from drawwell.crypto import pki
from drawwell.errors import StateUnavailable
from drawwell.state.files import make_private_directory, read_file, read_secret, replace_file

CA: Final = "ca"
SERVER: Final = "server"
CLOCK_IS_SET_S: Final = 1_672_531_200.0
"""2023-01-01: older than this program, so a clock before it was never set."""


class CertificateAuthority:
    """The mini-CA of one broker; made when it is not there.

    Args:
        directory: Where its files are kept.
        name: The broker's name, for the CA's subject.
        now: Seconds since 1970.

    Raises:
        StateUnavailable: files that cannot be read, written or understood, or certificate and key that are no pair.
    """

    def __init__(self, directory: str, name: str, now: float) -> None:
        self._directory = directory
        make_private_directory(directory)
        pair = self._load(CA)
        if pair is None:
            if now < CLOCK_IS_SET_S:
                raise StateUnavailable(
                    "this machine's clock is not set, so no authority is made",
                    hint="Set the clock and start again.",
                )
            pair = pki.new_ca(name, now)
            self._save(CA, pair)
        if not _is_pair(pair):
            raise StateUnavailable(
                f"{self._path(CA, 'key.pem')} is not the key of {self._path(CA, 'pem')}",
                hint=f"Restore {directory} from a backup, or move it away: consumers must then be invited anew.",
            )
        if pki.read_certificate(pair.certificate_pem).not_before > now:
            pair = pki.recertify_ca(pair, now)
            self._save(CA, pair)
        self.ca = pair
        self.spki_sha256 = pki.spki_sha256(pair.certificate_pem)

    @property
    def ca_files(self) -> tuple[str, str]:
        """Paths of the CA's certificate and key, as the enrolment door loads them."""
        return self._path(CA, "pem"), self._path(CA, "key.pem")

    def server_files(self, names: Sequence[str], now: float) -> tuple[str, str]:
        """Return the paths of the TLS door's certificate and key, renewed when due or when `names` are others.

        Call it again daily, and load the context anew afterwards.

        Raises:
            StateUnavailable: as the constructor.
            ValueError: a name that is neither DNS name nor IP address.
        """
        pair = self._load(SERVER)
        if pair is None or not _is_pair(pair) or not self._is_current(pair.certificate_pem, names, now):
            self._save(SERVER, pki.issue_server(self.ca, names, now))
        return self._path(SERVER, "pem"), self._path(SERVER, "key.pem")

    def issue_client(self, csr_pem: bytes, consumer: str, now: float) -> bytes:
        """Certify a consumer's key; raises ValueError as `pki.issue_client`."""
        return pki.issue_client(self.ca, csr_pem, consumer, now)

    def _is_current(self, certificate: bytes, names: Sequence[str], now: float) -> bool:
        return (
            not pki.renewal_due(certificate, now)
            and pki.is_issued_by(certificate, self.ca.certificate_pem)
            and pki.covers(certificate, names)
        )

    def _load(self, what: str) -> pki.KeyPair | None:
        """Read a pair; None when the certificate, which is written last, is not there."""
        certificate, key = self._path(what, "pem"), self._path(what, "key.pem")
        if not os.path.exists(certificate):
            return None
        return pki.KeyPair(read_file(certificate), read_secret(key))

    def _save(self, what: str, pair: pki.KeyPair) -> None:
        replace_file(self._path(what, "key.pem"), pair.key_pem)
        replace_file(self._path(what, "pem"), pair.certificate_pem)

    def _path(self, what: str, kind: str) -> str:
        return os.path.join(self._directory, f"{what}.pem" if kind == "pem" else f"{what}-{kind}")


def _is_pair(pair: pki.KeyPair) -> bool:
    try:
        return pki.spki_sha256(pair.certificate_pem) == pki.key_spki_sha256(pair.key_pem)
    except ValueError:
        return False
