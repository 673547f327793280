"""docs/keys.md, "What to do if a key was stolen", with a thief."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from drawwell.crypto import pki
from drawwell.crypto.hierarchy import KeyList
from drawwell.crypto.receipts import check_signature
from drawwell.enrolment.ca import CertificateAuthority
from drawwell.enrolment.key_ring import KeyRing
from drawwell.errors import AuthenticationFailed
from unit.enrolment.test_key_ring import CSR, HEAD, NOW, openssl_accepts

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
RENEWAL_S = pki.CLIENT_LIFETIME_S * pki.RENEWAL_POINT


class Site:
    """A broker, a consumer with pinned roots, and a thief with all keys."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now = folder, NOW
        self.ring = KeyRing(str(folder / "keys"), "well", NOW)
        self.authority = CertificateAuthority(str(folder / "pki"), self.ring)
        self.pinned = self.ring.public().roots
        self.served()
        shutil.copytree(folder / "keys", folder / "stolen")
        shutil.copytree(folder / "pki", folder / "stolen-pki")
        self.thief = KeyRing(str(folder / "stolen"), "well", NOW)

    def served(self) -> bytes:
        """Return the certificate chain of the TLS door."""
        self.authority.refresh()
        return Path(self.authority.server_files(["well"], self.now)[0]).read_bytes()

    def renew(self) -> None:
        """Perform the consumer's next renewal, as late as a running one would."""
        self.now += RENEWAL_S
        self.pinned = "".join(KeyList.read(self.ring.public().key_list, self.pinned).roots).encode()

    def believes(self, chain: bytes) -> bool:
        return openssl_accepts(self.folder, self.pinned, chain, self.now)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def replace_root(site: Site) -> None:
    """Let consumers receive the next root, then finish the old one."""
    site.ring.rotate("root", site.now)
    site.renew()
    assert site.believes(site.served())
    site.ring.rotate("finish-root", site.now)
    site.renew()


def test_a_stolen_receipt_key_signs_nothing_for_the_new_key(site: Site) -> None:
    """The stolen key is useless at once, because another key now signs."""
    site.ring.rotate("receipts", site.now)
    with pytest.raises(AuthenticationFailed):
        check_signature(site.ring.public().receipt_key, *site.thief.sign([HEAD]), HEAD)


def test_a_stolen_intermediate_is_out_with_the_root(site: Site) -> None:
    """After two renewals, in 9.3 days, consumers reject all its leaves."""
    site.ring.rotate("intermediate", site.now)
    assert site.believes(site.thief.serve(CSR, ["well"], site.now))
    replace_root(site)
    assert site.now - NOW < 9.4 * pki.DAY_S
    assert not site.believes(site.thief.serve(CSR, ["well"], site.now))
    assert site.believes(site.served())


def test_a_stolen_server_key_is_out_with_the_root(site: Site) -> None:
    """The certificate is valid for 90 days, or until the root is replaced."""
    stolen = (site.folder / "stolen-pki" / "server.pem").read_bytes()
    for name in ("server.pem", "server-key.pem"):
        (site.folder / "pki" / name).unlink()
    assert pki.spki_sha256(site.served()) != pki.spki_sha256(stolen)
    assert site.believes(stolen)
    site.now = NOW + 90 * pki.DAY_S
    assert not site.believes(stolen)
    site.now = NOW
    replace_root(site)
    assert not site.believes(stolen)


def test_after_a_stolen_root_machines_join_again(site: Site) -> None:
    """A consumer that pins another root rejects every list by the thief."""
    (site.folder / "keys").rename(site.folder / "away")
    ring = KeyRing(str(site.folder / "keys"), "well", site.now)
    joined_again = dataclasses.replace(ring.public()).roots
    with pytest.raises(AuthenticationFailed):
        KeyList.read(site.thief.public().key_list, joined_again)
    assert not openssl_accepts(site.folder, joined_again, site.thief.serve(CSR, ["well"], site.now))
    assert openssl_accepts(site.folder, joined_again, ring.serve(CSR, ["well"], site.now))
