"""A fleet gets a new root: brokers follow, and no consumer is locked out."""

import asyncio
import shutil
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from drawwell.crypto import pki
from drawwell.crypto.hierarchy import KeyList
from drawwell.crypto.tokens import secret_hash
from drawwell.enrolment.ca import CertificateAuthority
from drawwell.enrolment.registry import InvitedRegistry
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import AuthenticationFailed, PermissionRefused
from drawwell.state.files import replace_file
from drawwell.state.rows import CertificateRow, ConsumerRow, InvitationRow
from drawwell.state.store import Store
from drawwell.wire.contexts import client_context, server_context
from unit.enrolment.test_fleet_keys import HOUR_S, Machine, admitted, receipt_ends

WEEK_S = 7 * pki.DAY_S


class Fleet:
    """Two brokers with a root that is ten days old, and a third one."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now = folder, time.time()
        self.began = self.now - 10 * pki.DAY_S
        self.a, *self.others = (Machine(folder, f"site-{name}", self.began) for name in "abc")
        self.b, self.c = self.others
        self.a.fleet.found("example")
        for each in self.others:
            invitation = self.a.fleet.invite(each.name, HOUR_S, self.began)
            each.fleet.adopt(admitted(self.a, each, invitation, self.began))
        self.doors = {
            each: CertificateAuthority(str(folder / f"pki-{each.name}"), each.ring)
            for each in (self.a, self.b, self.c)
        }
        self.key, self.csr = pki.new_key_and_csr("web01")
        self.pinned = self.roots()

    def roots(self) -> bytes:
        return self.a.ring.public().roots

    def read_list(self, *brokers: Machine) -> None:
        for each in brokers:
            each.fleet.follow(self.a.ring.public().key_list)

    def get_certificate(self, broker: Machine) -> None:
        certificate = self.a.fleet.renew(broker.name, broker.fleet.due(self.now).encode(), self.now)
        broker.fleet.take(certificate.encode())

    def certified_by(self, broker: Machine) -> bytes:
        return broker.ring.certify(self.csr, "web01", self.now)

    def meet(self, broker: Machine, certificate: bytes, pinned: bytes) -> bytes:
        """Let a consumer and a broker's TLS door verify each other.

        Returns the certificate (DER) that the door has seen.
        """
        door = self.doors[broker]
        door.refresh()
        files = door.server_files(["well"], self.now)
        paths = {name: str(self.folder / f"{name}.pem") for name in ("own", "own-key", "pinned")}
        for path, pem in zip(paths.values(), (certificate, self.key, pinned), strict=True):
            replace_file(path, pem)
        ends = ssl.MemoryBIO(), ssl.MemoryBIO()
        served = server_context(*files, door.authorities, renews=True).wrap_bio(*ends, server_side=True)
        drawing = client_context(*paths.values()).wrap_bio(*reversed(ends), server_hostname="well")
        for _ in range(3):
            for peer in (drawing, served):
                try:
                    peer.do_handshake()
                except ssl.SSLWantReadError:
                    continue
        return served.getpeercert(binary_form=True) or b""


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


def pass_a_week(fleet: Fleet) -> None:
    """Announce the next root; let brokers and consumers learn of it."""
    fleet.a.ring.rotate("root", fleet.now - WEEK_S)
    fleet.read_list(*fleet.others)
    fleet.pinned = fleet.roots()


def test_no_consumer_is_locked_out_while_the_root_changes(fleet: Fleet) -> None:
    """Each broker accepts consumers of both, whatever step it has reached."""
    issued = [fleet.certified_by(broker) for broker in (fleet.a, fleet.b)]

    def all_meet() -> None:
        for certificate in issued:
            for broker in (fleet.a, fleet.b):
                assert fleet.meet(broker, certificate, fleet.pinned)

    all_meet()
    pass_a_week(fleet)
    all_meet()
    fleet.a.ring.rotate("finish-root", fleet.now)
    all_meet()
    renewed, new = fleet.certified_by(fleet.a), fleet.roots()
    assert fleet.meet(fleet.a, renewed, new)
    fleet.read_list(fleet.b)
    issued += [renewed, fleet.certified_by(fleet.b)]
    all_meet()
    with pytest.raises(ssl.SSLError):
        fleet.meet(fleet.b, renewed, new)
    assert fleet.b.ring.describe(fleet.now)["intermediate_is_due"]
    fleet.get_certificate(fleet.b)
    issued.append(fleet.certified_by(fleet.b))
    all_meet()
    for broker in (fleet.a, fleet.b):
        assert fleet.meet(broker, renewed, new)
    assert fleet.b.ring.public().roots == new
    assert not fleet.b.fleet.due(fleet.now)


def test_a_broker_follows_lists_of_the_new_root(fleet: Fleet) -> None:
    """Later lists, which only the new root has signed, are adopted."""
    pass_a_week(fleet)
    fleet.a.ring.rotate("finish-root", fleet.now)
    fleet.a.ring.rotate("receipts", fleet.now)
    fleet.read_list(fleet.b)
    fleet.get_certificate(fleet.b)
    assert (fleet.b.path / "root.pem").read_bytes() == fleet.roots()
    fleet.a.ring.rotate("receipts", fleet.now)
    fleet.read_list(fleet.b)
    again = Machine(fleet.folder, "site-b", fleet.now)
    assert again.ring.public().key_list == fleet.a.ring.public().key_list


def test_a_broker_waits_for_a_certificate_of_the_new_root(fleet: Fleet) -> None:
    """Certificates of the earlier root and of another key change nothing."""
    csr = fleet.b.fleet.request()[0]
    earlier = fleet.a.fleet.renew("site-b", csr, fleet.now)
    pass_a_week(fleet)
    fleet.a.ring.rotate("finish-root", fleet.now)
    fleet.read_list(fleet.b)
    before = fleet.b.ring.public()
    fleet.b.fleet.take(earlier.encode())
    with pytest.raises(AuthenticationFailed):
        fleet.b.fleet.take(fleet.a.fleet.renew("site-c", fleet.c.fleet.request()[0], fleet.now).encode())
    assert fleet.b.ring.public() == before
    assert fleet.b.fleet.due(fleet.now)


def test_the_old_root_verifies_consumers_for_127_days(fleet: Fleet) -> None:
    """The last certificates end after 90 days, and renewals 37 days later."""
    old = fleet.roots()
    pass_a_week(fleet)
    fleet.a.ring.rotate("finish-root", fleet.now)
    fleet.read_list(fleet.b)
    fleet.get_certificate(fleet.b)
    for name in ("site-a", "site-b"):
        for days, is_kept in ((126.9, True), (127.1, False)):
            opened = Machine(fleet.folder, name, fleet.now + days * pki.DAY_S)
            assert (old in opened.ring.public().authorities) is is_kept


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[InvitedRegistry]:
    store = Store(str(tmp_path / "broker.db"))
    yield InvitedRegistry(store)
    store.close()


def test_the_thief_of_the_old_root_draws_nothing(fleet: Fleet, registry: InvitedRegistry) -> None:
    """The old root certifies any name, but only registered keys may draw."""
    shutil.copytree(fleet.a.path, fleet.folder / "stolen")
    thief = Machine(fleet.folder, "stolen", fleet.now)
    secret, end = bytes(32), fleet.now + WEEK_S
    web01 = ConsumerRow("web01", None, None, frozenset(DrawClass), fleet.now)
    registry._store.invite(web01, InvitationRow("id", "web01", secret_hash(secret), fleet.now, end))
    row = CertificateRow(pki.csr_spki_sha256(fleet.csr).hex(), "web01", "1", end)
    registry._store.redeem("id", secret, row, fleet.now)
    pass_a_week(fleet)
    fleet.a.ring.rotate("finish-root", fleet.now)

    own = fleet.meet(fleet.a, fleet.certified_by(fleet.b), fleet.pinned)
    assert asyncio.run(registry.identify(own)).name == "web01"
    fleet.key, fleet.csr = pki.new_key_and_csr("web01")
    false = fleet.meet(fleet.a, fleet.certified_by(thief), fleet.pinned)
    with pytest.raises(AuthenticationFailed, match="does not belong to a consumer"):
        asyncio.run(registry.identify(false))


def test_a_stolen_broker_is_out_with_the_root(fleet: Fleet) -> None:
    """The row "a broker of a fleet" of docs/keys.md; other brokers follow."""
    csr, receipt_key = fleet.b.fleet.request()
    fleet.a.fleet.remove("site-b", fleet.now - WEEK_S)
    pass_a_week(fleet)
    assert fleet.meet(fleet.b, fleet.certified_by(fleet.b), fleet.pinned)
    fleet.a.ring.rotate("finish-root", fleet.now)
    fleet.read_list(*fleet.others)
    with pytest.raises(PermissionRefused):
        fleet.a.fleet.renew("site-b", csr, fleet.now)
    fleet.get_certificate(fleet.c)

    fleet.pinned = "".join(KeyList.read(fleet.c.ring.public().key_list, fleet.pinned).roots).encode()
    assert receipt_ends(fleet.c)[receipt_key] == int(fleet.now - WEEK_S)
    own = fleet.certified_by(fleet.c)
    for broker in (fleet.a, fleet.c):
        assert fleet.meet(broker, own, fleet.pinned)
    with pytest.raises(ssl.SSLError):
        fleet.meet(fleet.b, own, fleet.pinned)
