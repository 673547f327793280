"""Attacks on identities: registry refreshes and reserved names."""

import asyncio
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from drawwell.authorisation import Principal
from drawwell.broker.control import Control
from drawwell.crypto import pki
from drawwell.crypto.tokens import parse_token, secret_hash
from drawwell.enrolment.admin import ConsumerAdmin
from drawwell.enrolment.broker_details import BrokerDetails
from drawwell.enrolment.registry import InvitedRegistry
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import PermissionRefused, Refused, StateUnavailable
from drawwell.state.rows import CertificateRow, ConsumerRow, InvitationRow, KnownConsumer
from drawwell.state.store import Store
from drawwell.testing.waiting import DEADLINE_S, wait_until
from drawwell.wire.enrolment import JoinReply, JoinRequest
from support.certificates import own_authority
from support.principals import OWNER, consumer

BOTH = frozenset(DrawClass)
LATER = time.time() + 5 * pki.DAY_S


class SlowStore(Store):
    """A store that can delay a reader, like a slow disk."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.gate = threading.Event()
        self.hold_next = False
        self.held = self.away = False

    def find(self, name: str) -> KnownConsumer | None:
        if self.away:
            raise StateUnavailable("the disk is away")
        found = super().find(name)
        if self.hold_next:
            self.hold_next, self.held = False, True
            self.gate.wait(DEADLINE_S)
        return found


@pytest.fixture
def store(tmp_path):
    store = SlowStore(str(tmp_path / "state" / "broker.db"))
    for name in ("web01", "db01"):
        invitation = InvitationRow(f"invitation of {name}", name, secret_hash(b"secret"), 0.0, LATER)
        store.invite(ConsumerRow(name, None, None, BOTH, 0.0), invitation)
        store.redeem(invitation.id, b"secret", CertificateRow(f"key of {name}", name, "1", LATER), 1.0)
    yield store
    store.gate.set()
    store.close()


def peer(name: str) -> Principal:
    return consumer(name, f"key of {name}")


def known_to(store: SlowStore) -> InvitedRegistry:
    """Return a registry to which both consumers have connected."""
    registry = InvitedRegistry(store)
    for name in ("web01", "db01"):
        asyncio.run(registry.find(name))
    return registry


def slow_refresh(registry: InvitedRegistry, store: SlowStore) -> threading.Thread:
    """Start a refresh that has read the state and is then delayed."""
    return slowly(store, lambda: registry.refresh("web01"))


def slow_lookup(registry: InvitedRegistry, store: SlowStore) -> threading.Thread:
    """Start a first lookup that has read the state and is then delayed."""
    return slowly(store, lambda: asyncio.run(registry.find("web01")))


def slowly(store: SlowStore, read: Callable[[], object]) -> threading.Thread:
    store.hold_next = True
    reader = threading.Thread(target=read)
    reader.start()
    wait_until(lambda: store.held, "the registry has read the state")
    return reader


def test_no_consumer_is_refused_while_another_renews(store) -> None:
    """Known consumers stay known during a refresh, even with a slow disk."""
    registry = known_to(store)
    renewal = slow_refresh(registry, store)
    try:
        assert registry.check(peer("db01")) == peer("db01")
    finally:
        store.gate.set()
        renewal.join()


def test_a_slow_refresh_does_not_undo_a_revocation(store) -> None:
    """A consumer that is revoked during a refresh stays revoked."""
    registry = known_to(store)
    renewal = slow_refresh(registry, store)
    store.revoke("web01", 2.0)
    revocation = threading.Thread(target=registry.refresh, args=("web01",))
    revocation.start()
    revocation.join(0.2)  # it is over, or it waits for the renewal
    store.gate.set()
    renewal.join()
    revocation.join()
    with pytest.raises(PermissionRefused, match="revoked"):
        registry.check(peer("web01"))


def test_a_lookup_on_its_way_does_not_undo_a_revocation(store) -> None:
    """A consumer that is revoked during its first lookup is refused."""
    registry = InvitedRegistry(store)
    lookup = slow_lookup(registry, store)
    store.revoke("web01", 2.0)
    revocation = threading.Thread(target=registry.refresh, args=("web01",))
    revocation.start()
    wait_until(lambda: "web01" in registry._stale, "the revocation waits for the lookup")
    store.gate.set()
    lookup.join()
    revocation.join()
    with pytest.raises(PermissionRefused, match="revoked"):
        registry.check(peer("web01"))


def test_a_lookup_on_its_way_does_not_hide_a_failed_refresh(store) -> None:
    """A revocation that cannot be read after a lookup is read later."""
    registry = InvitedRegistry(store)
    lookup = slow_lookup(registry, store)
    store.revoke("web01", 2.0)
    store.away = True
    with ThreadPoolExecutor() as threads:
        revocation = threads.submit(registry.refresh, "web01")
        wait_until(lambda: "web01" in registry._stale, "the revocation waits for the lookup")
        store.gate.set()
        lookup.join()
        with pytest.raises(StateUnavailable):
            revocation.result()
    store.away = False
    registry.retry()
    with pytest.raises(PermissionRefused, match="revoked"):
        registry.check(peer("web01"))


class Kiosk:
    """An admin with one consumer, and the data needed to renew it."""

    def __init__(self, directory: str) -> None:
        self.store = Store(os.path.join(directory, "broker.db"))
        authority = own_authority(os.path.join(directory, "pki"), time.time())
        self.registry = InvitedRegistry(self.store)
        site = BrokerDetails("well", "127.0.0.1:1", ("127.0.0.1:2",))
        self.admin = ConsumerAdmin(self.store, self.registry, authority, site, clock=time.time)
        self.ask = Control(self.admin.handlers())

    def join(self, name: str) -> str:
        """Enrol a machine; return its signing request."""
        token = parse_token(self.admin.invite(name)["token"])
        _key, csr = pki.new_key_and_csr(name)
        reply = self.admin.redeem(JoinRequest(token.invitation, token.secret, csr.decode()))
        assert isinstance(reply, JoinReply)
        return csr.decode()


@pytest.fixture
def kiosk(tmp_path):
    kiosk = Kiosk(str(tmp_path / "broker"))
    yield kiosk
    kiosk.store.close()


def test_a_flood_of_renewals_by_one_consumer_is_one_renewal_at_a_time(kiosk) -> None:
    """A second concurrent renewal is refused; another consumer's succeeds."""
    greedy, modest = kiosk.join("greedy"), kiosk.join("modest")

    async def run() -> list:
        flood = [kiosk.ask(consumer("greedy", "its key"), "renew", {"csr": greedy}) for _ in range(100)]
        modestly = kiosk.ask(consumer("modest", "its key"), "renew", {"csr": modest})
        return await asyncio.gather(*flood, modestly, return_exceptions=True)

    *flood, modest_reply = asyncio.run(run())
    assert "certificate" in modest_reply
    assert ["certificate" in reply for reply in flood if isinstance(reply, dict)] == [True]
    assert {type(reply) for reply in flood if not isinstance(reply, dict)} == {Refused}
    assert "certificate" in asyncio.run(kiosk.ask(consumer("greedy", "its key"), "renew", {"csr": greedy}))


def test_a_change_of_quota_does_not_undo_a_revocation(kiosk) -> None:
    """With two concurrent operators, a revoked consumer stays revoked."""
    kiosk.join("web01")

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(kiosk.ask(OWNER, "consumer.quota", {"name": "web01", "rate": "1KiB/s"}))
            group.create_task(kiosk.ask(OWNER, "consumer.revoke", {"name": "web01"}))

    written = threading.Event()
    put_consumer, known = kiosk.store.put_consumer, threading.Event()

    def slow_put(row: ConsumerRow) -> None:
        known.set()
        written.wait(0.2)  # short: the revocation is written, or it waits for this
        put_consumer(row)

    def revoke(name: str, now: float) -> None:
        known.wait(DEADLINE_S)
        Store.revoke(kiosk.store, name, now)
        written.set()

    kiosk.store.put_consumer, kiosk.store.revoke = slow_put, revoke
    asyncio.run(run())
    assert kiosk.store.consumers()["web01"].revoked_at is not None
