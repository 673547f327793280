"""Attacks on who is who: what others see while the registry reads its state, and names that nobody may take."""

import threading
import time

import pytest

from drawwell.crypto import pki
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import PermissionRefused, StateUnavailable
from drawwell.host.registry import InvitedRegistry
from drawwell.host.rows import CertificateRow, ConsumerRow, InvitationRow
from drawwell.host.store import Store
from drawwell.ports import Peer
from drawwell.testing.waiting import wait_until

BOTH = frozenset(DrawClass)
LATER = time.time() + 10 * pki.DAY_S


class SlowStore(Store):
    """A store in which one reader can be held up, as behind a slow disk."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.gate = threading.Event()
        self.hold_next = False
        self.held = False
        self.damaged = False

    def certificates(self) -> dict[str, CertificateRow]:
        if self.damaged:
            raise StateUnavailable("damaged")
        rows = super().certificates()
        if self.hold_next:
            self.hold_next, self.held = False, True
            self.gate.wait(30)
        return rows


@pytest.fixture
def store(tmp_path):
    store = SlowStore(str(tmp_path / "state" / "broker.db"))
    for name in ("web01", "db01"):
        invitation = InvitationRow(f"invitation of {name}", name, b"hash", 0.0, LATER)
        store.invite(ConsumerRow(name, None, None, BOTH, 0.0), invitation)
        store.redeem(invitation.id, CertificateRow(f"key of {name}", name, "1", LATER), 1.0)
    yield store
    store.gate.set()
    store.close()


def peer(name: str) -> Peer:
    return Peer(name, certificate_id=f"key of {name}")


def slow_refresh(registry: InvitedRegistry, store: SlowStore) -> threading.Thread:
    """Begin a refresh that has read the state and waits at the gate with what it read."""
    store.hold_next = True
    refresh = threading.Thread(target=registry.refresh)
    refresh.start()
    wait_until(lambda: store.held, "the registry has read the state")
    return refresh


def test_nobody_is_turned_away_while_another_renews(store) -> None:
    """Whoever was known stays known while the registry reads its state again, however long the disk takes."""
    registry = InvitedRegistry(store)
    renewal = slow_refresh(registry, store)
    try:
        assert registry.check(peer("db01"), time.time()) == peer("db01")
    finally:
        store.gate.set()
        renewal.join()


def test_a_slow_refresh_does_not_undo_a_revocation(store) -> None:
    """A refresh that began before a revocation and ends after it leaves the consumer revoked."""
    registry = InvitedRegistry(store)
    renewal = slow_refresh(registry, store)
    store.revoke("web01", 2.0)
    revocation = threading.Thread(target=registry.refresh)
    revocation.start()
    revocation.join(0.2)  # it is over, or it waits for the renewal
    store.gate.set()
    renewal.join()
    revocation.join()
    with pytest.raises(PermissionRefused, match="revoked"):
        registry.check(peer("web01"), time.time())


def test_a_state_that_cannot_be_read_lets_nobody_in(store) -> None:
    """When a refresh fails nobody is known, rather than those who may have been revoked."""
    registry = InvitedRegistry(store)
    store.damaged = True
    with pytest.raises(StateUnavailable):
        registry.refresh()
    with pytest.raises(PermissionRefused):
        registry.check(peer("db01"), time.time())
