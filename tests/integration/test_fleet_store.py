"""fleet/store.py on a real PostgreSQL."""

import psycopg
import pytest

from drawwell.crypto.tokens import secret_hash
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import PermissionRefused, StateUnavailable
from drawwell.fleet.connection import Address
from drawwell.fleet.schema import install
from drawwell.fleet.store import PostgresStore
from drawwell.state.rows import ConsumerRow, InvitationRow, SeedRow

SECRET = bytes(32)
WEB = ConsumerRow("web01", None, None, frozenset(DrawClass), created=1.5)
INVITATION = InvitationRow("id", "web01", secret_hash(SECRET), created=10.0, expires=910.0)


@pytest.fixture
def store(fleet_database):
    store = PostgresStore(Address(fleet_database.broker), "site-a", lambda: Address(fleet_database.owner))
    yield store
    store.close()


def test_the_role_of_a_broker_cannot_write_to_a_table(fleet_database) -> None:
    """A broker's role cannot access tables or call the owner's functions."""
    with psycopg.connect(fleet_database.broker, autocommit=True) as db:
        for query in (
            "SELECT * FROM drawwell.consumers",
            "UPDATE drawwell.lease SET granted = 0",
            "SELECT drawwell.revoke('web01', 0)",
            "SELECT drawwell.note_change('web01')",
            "SELECT drawwell.admit_broker('site-a', 'x')",
            "SELECT drawwell.exclude_broker('site-a', true, true)",
            "SELECT drawwell.answer_request('site-a', 'csr', 'x')",
            "SELECT drawwell.drop_request('site-a', 'csr')",
            "SELECT drawwell.publish_keys('x')",
            "CREATE TEMPORARY TABLE t (n integer)",
            "CREATE TABLE public.t (n integer)",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                db.execute(query)
        assert db.execute("SELECT name FROM drawwell.about()").fetchone() == ("test",)


def test_every_change_of_a_consumer_is_in_the_feed(store) -> None:
    """Invitation and revocation are one change each, and are read once."""
    store.invite(WEB, INVITATION)
    first = store.changes(0)
    store.revoke("web01", 20.0)

    assert (first.consumers, first.complete) == (("web01",), True)
    assert store.changes(first.last).consumers == ("web01",)
    assert store.changes(store.changes(0).last).consumers == ()


def test_no_epoch_is_given_twice(fleet_database) -> None:
    """Each run of each broker has its own epoch."""
    epochs = []
    for broker in ("site-a", "site-b", "site-a"):
        store = PostgresStore(Address(fleet_database.broker), broker)
        epochs.append(store.next_epoch())
        store.close()

    assert epochs == [1, 2, 3]


def test_a_seed_is_given_once_in_the_fleet(store, fleet_database) -> None:
    """Another broker that claims the seed is shown the first claim."""
    other = PostgresStore(Address(fleet_database.broker), "site-b")
    claims = [store.claim_seed("vm1", 5.0, again=False), other.claim_seed("vm1", 6.0, again=False)]
    other.close()

    assert claims == [None, SeedRow("vm1", 1, 5.0, None)]


def test_a_broker_without_the_role_of_the_owner_names_the_one_that_has_it(fleet_database) -> None:
    """Invite, revoke and quota are refused; the error names the right broker."""
    with psycopg.connect(fleet_database.owner, autocommit=True) as owner:
        install(owner, "test", fleet_database.role, "site-a")
    store = PostgresStore(Address(fleet_database.broker), "site-b")
    for change in (
        lambda: store.invite(WEB, INVITATION),
        lambda: store.revoke("web01", 5.0),
        lambda: store.put_consumer(WEB),
    ):
        with pytest.raises(PermissionRefused) as caught:
            change()
        assert "site-a" in (caught.value.hint or "")
    store.close()


def test_migrating_again_changes_nothing(store, fleet_database) -> None:
    """Installing the schema again keeps the data."""
    store.invite(WEB, INVITATION)
    with psycopg.connect(fleet_database.owner, autocommit=True) as owner:
        install(owner, "test", fleet_database.role)
        with pytest.raises(StateUnavailable, match="belongs to the fleet 'test'"):
            install(owner, "other", fleet_database.role)
        with pytest.raises(StateUnavailable, match="have the role") as refused:
            install(owner, "test", "other_broker")
        assert f"--role {fleet_database.role}" in (refused.value.hint or "")

    assert store.find("web01")
