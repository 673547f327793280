"""Attacks on a fleet's broker by a stolen broker or a false store."""

import asyncio
import contextlib

import psycopg
import pytest

from drawwell.config.load import load
from drawwell.config.model import Config
from drawwell.crypto.tokens import secret_hash
from drawwell.enrolment.broker_list import BrokerList
from drawwell.entropy.blocks import DrawClass
from drawwell.entropy.leased_quota import LeaseAsk, Unused
from drawwell.errors import StateUnavailable, UsageError
from drawwell.fleet.checks import Wanted
from drawwell.fleet.connection import Address, StoreConnection
from drawwell.fleet.feed import ChangeFeed
from drawwell.fleet.heartbeat import Heartbeat
from drawwell.fleet.leases import Leases
from drawwell.fleet.mail import FleetOwner
from drawwell.fleet.own_row import OwnRow
from drawwell.fleet.store import PostgresStore
from drawwell.state.rows import CertificateRow, ConsumerRow, InvitationRow, SeedRow
from drawwell.units import Allowance
from drawwell.wire.brokers import MOST_BROKERS, KnownBroker
from drawwell.wire.signer_messages import frame, write_object

SECRET = bytes(32)
WEB = ConsumerRow("web01", None, None, frozenset(DrawClass), created=1.5)
INVITATION = InvitationRow("id", "web01", secret_hash(SECRET), created=10.0, expires=910.0)
OWN = OwnRow(["site-a:55000"], "", "", "1", {})


@pytest.mark.parametrize(("op", "size"), [("fleet-follow", 150_000), ("fleet-renew", 65_536)])
def test_what_the_store_holds_fits_into_a_message_to_the_signer(op, size) -> None:
    """The longest text fits even if every letter is escaped."""
    assert frame(write_object(op=op, text="\x01" * size))


@pytest.fixture
def thief(fleet_database):
    """Return a connection with the role of site-b, which was stolen."""
    with psycopg.connect(fleet_database.of("site-b"), autocommit=True) as db:
        yield db


@pytest.fixture
def store(fleet_database):
    store = PostgresStore(Address(fleet_database.broker), "site-a", lambda: Address(fleet_database.owner))
    yield store
    store.close()


@pytest.fixture
def heartbeat(fleet_database):
    address = Address(fleet_database.broker, Wanted(allow_async=True))
    made = Heartbeat(address, "site-a", 900.0, lambda: OWN)
    yield made
    made.close()


def beat(thief, report: str, addresses: list[str] | None = None) -> None:
    values = (addresses or ["x:55000"], report)
    thief.execute("SELECT drawwell.beat(%s, '', '', '1', %s::text::jsonb)", values)


@pytest.mark.parametrize(
    "report", ["[" * 2000 + "]" * 2000, '{"sessions": ' + "9" * 5000 + "}", '{"leases": -4}', "null"]
)
def test_a_report_that_cannot_be_read_is_one_of_nothing(thief, heartbeat, report) -> None:
    """Deep, long or negative reports by one broker do not stop others."""
    beat(thief, report)
    asyncio.run(heartbeat.beat())

    reported = {each.name: each for each in heartbeat.report().brokers}
    assert heartbeat.report().trouble == ""
    assert (reported["site-b"].sessions, reported["site-b"].leases) == (0, 0)
    assert "site-a" in reported


def test_a_number_in_a_report_can_be_printed(thief, heartbeat) -> None:
    """A number beyond every size counts as none."""
    beat(thief, '{"leased_bytes": ' + "9" * 4000 + "}")
    asyncio.run(heartbeat.beat())

    assert {each.leased_bytes for each in heartbeat.report().brokers} == {0}


def test_false_rows_do_not_keep_consumers_from_the_list_of_brokers(thief, heartbeat, fleet_database) -> None:
    """Malformed rows are omitted; this broker is always in the list."""
    beat(thief, "{}", ["with space\n"])
    with psycopg.connect(fleet_database.owner, autocommit=True) as owner:
        for number in range(MOST_BROKERS + 6):
            owner.execute("INSERT INTO drawwell.brokers VALUES (%s, '{x:55000}')", (f"b{number}",))
    asyncio.run(heartbeat.beat())
    known = BrokerList(KnownBroker("site-a", ("site-a:55000",)), str, "f", heartbeat).known()

    assert len(known.brokers) == MOST_BROKERS
    assert KnownBroker("site-a", ("site-a:55000",)) in known.brokers
    assert "site-b" not in {each.name for each in known.brokers}


@pytest.mark.parametrize(
    "query",
    [
        f"redeem('id', '\\x{SECRET.hex()}', 'k', 's', 'infinity', 1, '')",
        f"redeem('id', '\\x{SECRET.hex()}', 'k', 's', 5, 'nan', '')",
        f"redeem('id', '\\x{SECRET.hex()}', 'k', repeat('s', 1000), 5, 1, '')",
        "claim_seed('vm', '-infinity', false)",
        "ask_certificate(repeat('x', 100000))",
        "beat(ARRAY[repeat('x', 3000)], '', '', '', '{}')",
        "beat('{}', '', '', '', to_jsonb(repeat('x', 100000)))",
    ],
)
def test_what_the_others_cannot_read_is_not_written(thief, store, query) -> None:
    """Invalid times and endless texts are refused."""
    store.invite(WEB, INVITATION)
    with pytest.raises(psycopg.errors.CheckViolation):
        thief.execute(f"SELECT drawwell.{query}")


def test_a_row_is_written_by_the_broker_that_it_is_of(thief, store, heartbeat) -> None:
    """Whatever a session calls itself, it writes as its own broker."""
    asyncio.run(heartbeat.beat())
    store.claim_seed("vm", 5.0, again=False)
    for disguise in ("SET ROLE {group}", "SET application_name = 'drawwell feed site-a'"):
        thief.execute(disguise.format(group=thief.info.dbname))
        beat(thief, '{"sessions": 5}')
        thief.execute("SELECT drawwell.ask_certificate('x'), drawwell.settle_seed('vm', NULL)")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        thief.execute("SET SESSION AUTHORIZATION drawwell_owner")
    asyncio.run(heartbeat.beat())

    assert {each.name: each.sessions for each in heartbeat.report().brokers} == {"site-a": 0, "site-b": 5}
    assert store.claim_seed("vm", 6.0, again=False)
    assert thief.execute("SELECT drawwell.enter('site-a')").fetchone() == ("site-b",)


def test_the_name_of_another_broker_cannot_be_taken(thief, fleet_database) -> None:
    """A broker enters while another broker imitates it and holds its locks."""
    thief.execute("SET application_name = 'drawwell feed site-a'")
    thief.execute("SELECT pg_advisory_lock(hashtextextended('drawwell broker site-a', 0))")
    feed = ChangeFeed(Address(fleet_database.broker), "site-a", None, 900.0)
    feed.start()
    feed.close()


def test_a_broker_returns_no_lease_of_another(thief, fleet_database) -> None:
    """A broker can return only the bytes that it leased itself, once."""
    total = Allowance(8000, 200 * 365 * 86400.0)
    leases = [Leases(Address(fleet_database.of(name)), name) for name in ("site-a", "site-b")]
    first, second = (each.lease({"web01": LeaseAsk(1000, None, total)})["web01"] for each in leases)
    for _ in range(2):
        leases[1].give_back({"web01": Unused(first.period, 8000)})
    last = leases[0].lease({"web01": LeaseAsk(1, None, total)})["web01"]
    for each in leases:
        each.close()

    assert (first.granted_bytes, second.granted_bytes) == (1000, 1000)
    assert last.granted_bytes + last.remaining_bytes == 7000


def test_an_invitation_is_redeemed_by_its_secret_only(thief, store) -> None:
    """The stored hash of a secret does not redeem the invitation."""
    store.invite(WEB, INVITATION)
    known = thief.execute("SELECT secret_hash FROM drawwell.invitation('id')").fetchone()[0]
    redeem = "SELECT drawwell.redeem('id', %s, 'k', '1', 5, 1, '')"

    assert thief.execute(redeem, (known,)).fetchone() == (False,)
    assert thief.execute(redeem, (SECRET,)).fetchone() == (True,)


@pytest.mark.parametrize(
    "query",
    [
        "ALTER ROLE {other} SET client_min_messages = 'error'",
        "ALTER ROLE {other} PASSWORD 'x'",
        "ALTER DATABASE {database} SET client_min_messages = 'error'",
        "ALTER SYSTEM SET client_min_messages = 'error'",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{name}'",
        "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE usename = '{name}'",
        "GRANT {group} TO {other}",
        "GRANT {own} TO {other}",
        "REVOKE {own} FROM drawwell_owner",
        "SET ROLE {other}",
    ],
)
def test_a_broker_does_nothing_to_the_role_of_another(thief, fleet_database, query) -> None:
    """A role cannot change settings, password or sessions of another."""
    with psycopg.connect(fleet_database.broker) as other:
        name, own, group = other.info.user, f'"{thief.info.user}"', fleet_database.role
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            thief.execute(query.format(other=f'"{name}"', name=name, own=own, database=group, group=group))


def test_a_broker_that_is_removed_is_out_at_once(thief, fleet_database, heartbeat, folder) -> None:
    """Its open transactions with locks do not delay the removal."""
    asyncio.run(heartbeat.beat())
    beat(thief, "{}")
    with psycopg.connect(fleet_database.of("site-b")) as holds:
        holds.execute("SELECT drawwell.beat('{}', '', '', '1', '{}'), drawwell.next_epoch()")
        holds.execute("SELECT drawwell.ask_certificate('x')")
        holds.execute("ALTER ROLE CURRENT_USER PASSWORD 'mine'")
        with contextlib.closing(FleetOwner(owners(folder, fleet_database))) as owner:
            with pytest.raises(UsageError, match="broker site-b is running"):
                owner.remove("site-b", known=False, running=False)
            owner.remove("site-b", known=False, running=True)
        for session in (thief, holds):
            with pytest.raises(psycopg.OperationalError):
                session.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="not permitted to log in"):
        psycopg.connect(fleet_database.of("site-b"))
    connection = StoreConnection(Address(fleet_database.of("site-b")), "site-b")
    with pytest.raises(StateUnavailable, match="this broker was removed from its fleet") as refused:
        connection.call("about")
    asyncio.run(heartbeat.beat())

    assert "fleet invite" in (refused.value.hint or "")
    assert [each.name for each in heartbeat.report().brokers] == ["site-a"]


def test_a_session_that_outlives_its_removal_may_call_nothing(thief, fleet_database) -> None:
    """The role loses its functions before its sessions are ended."""
    assert thief.execute("SELECT drawwell.enter('site-b')").fetchone() == ("",)
    with psycopg.connect(fleet_database.owner, autocommit=True) as owner:
        owner.execute("SELECT drawwell.exclude_broker('site-b', false, true)")
    for query in ("enter('site-b')", "next_epoch()", "changes(0)", "count_consumers()"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            thief.execute(f"SELECT drawwell.{query}")


def test_a_broker_that_joins_again_has_its_role_to_itself(thief, fleet_database, folder) -> None:
    """Sessions with the earlier password end, and settings are reset."""
    thief.execute("ALTER ROLE CURRENT_USER SET default_transaction_read_only = on")
    thief.execute(f"ALTER ROLE CURRENT_USER IN DATABASE {thief.info.dbname} SET search_path = x")
    with contextlib.closing(FleetOwner(owners(folder, fleet_database))) as owner:
        role, password = owner.admit("site-b")
    with pytest.raises(psycopg.OperationalError):
        thief.execute("SELECT 1")
    with psycopg.connect(fleet_database.of("site-b")) as db:
        settings = "SELECT current_setting('default_transaction_read_only'), current_setting('search_path')"
        assert db.execute(settings).fetchone() == ("off", '"$user", public')
        assert db.info.user == role
    assert len(password) == 43


def owners(folder, database) -> Config:
    """Return the configuration of site-a, which has the owner's role."""
    path, owner = folder / "site-a.toml", folder / "owner"
    owner.write_text(database.owner)
    path.write_text(
        f'[broker]\nname = "site-a"\n[fleet]\nname = "test"\nstore = "{database.broker}"\nowner = "{owner}"\n'
    )
    return load(str(path))


def test_a_broker_goes_on_with_its_own_settings(thief, fleet_database) -> None:
    """Settings of the brokers' group or the database hide no notices."""
    names = ("client_min_messages", "statement_timeout", "bytea_output")
    thief.execute(f"SET ROLE {fleet_database.role}")
    for setting in ("client_min_messages = 'error'", "statement_timeout = '7s'", "bytea_output = 'escape'"):
        thief.execute(f"ALTER ROLE {fleet_database.role} SET {setting}")
        with psycopg.connect(fleet_database.owner, autocommit=True) as owner:
            owner.execute(f"ALTER DATABASE {fleet_database.role} SET {setting}")
    connection = StoreConnection(Address(fleet_database.broker), "site-a")
    values = [connection.run("SELECT current_setting(%s)", (name,))[0][0] for name in names]
    connection.close()

    assert values == ["notice", "0", "hex"]


def test_a_rate_recovers_from_an_arrival_in_the_far_future(thief, fleet_database) -> None:
    """A clock that was ahead delays a rate by at most its largest draw."""
    thief.execute("SELECT drawwell.lease('{x:y}', '{1}', '{1}', '{9000000000000000000}', '{NULL}', '{NULL}')")
    leases = Leases(Address(fleet_database.broker), "site-a")
    grant = leases.lease({"x:y": LeaseAsk(1, Allowance(65536, 1.0), None)})["x:y"]
    leases.close()

    assert (grant.reason, grant.wait_s <= 1.0) == ("rate", True)


def test_a_seed_that_was_given_stays_given(store) -> None:
    """A broker that withdraws its claim does not free an issued seed."""
    store.claim_seed("vm", 5.0, again=False)
    store.settle_seed("vm", 77)
    store.settle_seed("vm", None)

    assert store.claim_seed("vm", 6.0, again=False) == SeedRow("vm", 1, 5.0, 77)


def test_a_refused_value_does_not_end_the_connection(store) -> None:
    """A duplicate key and an invalid text fail without ending the connection."""
    other = ConsumerRow("web02", None, None, frozenset(DrawClass), created=1.5)
    store.invite(WEB, INVITATION)
    store.invite(other, InvitationRow("id2", "web02", secret_hash(SECRET), created=10.0, expires=910.0))
    store.redeem("id", SECRET, CertificateRow("k", "web01", "1", 5.0), 1.0)
    for refused in (
        lambda: store.redeem("id2", SECRET, CertificateRow("k", "web02", "1", 5.0), 1.0),
        lambda: store.owner_of("\ud800"),
    ):
        with pytest.raises(StateUnavailable, match="rejected a value"):
            refused()
        assert store.count() == 2


def test_a_consumer_with_very_many_certificates_is_found_with_the_valid_one(thief, store) -> None:
    """Of a thousand added and revoked keys, the current one is read."""
    store.invite(WEB, INVITATION)
    store.redeem("id", SECRET, CertificateRow("k", "web01", "1", 5.0), 1.0)
    thief.execute("SELECT drawwell.rekey('web01', 'k', 'k' || n, '1', 5, n) FROM generate_series(1, 1000) n")
    found = store.find("web01")

    assert found
    assert len(found.certificates) <= 256
    assert found.certificates["k"].revoked_at is None


@pytest.mark.parametrize(
    ("name", "granted", "ends_s", "wait_s", "reason"),
    [
        ("'x'", "1", "1", "0", "''"),
        ("names[1]", "NULL", "1", "0", "''"),
        ("names[1]", "-5", "1", "0", "''"),
        ("names[1]", "1", "'nan'", "0", "''"),
        ("names[1]", "0", "1", "NULL", "'rate'"),
        ("names[1]", "0", "1", "1", "NULL"),
    ],
    ids=["of another", "no grant", "less than nothing", "no end", "no wait", "no reason"],
)
def test_a_false_answer_grants_nothing(fleet_database, name, granted, ends_s, wait_s, reason) -> None:
    """An answer that is not a grant counts as an unavailable store."""
    with psycopg.connect(fleet_database.owner, autocommit=True) as owner:
        owner.execute("ALTER FUNCTION drawwell.lease RENAME TO true_lease")
        owner.execute(
            "CREATE FUNCTION drawwell.lease(names text[], bigint[], bigint[], bigint[], bigint[], bigint[])"
            " RETURNS TABLE (consumer text, granted bigint, remaining bigint, period bigint, ends_s float8,"
            f" wait_s float8, reason text) LANGUAGE sql AS $$ SELECT {name}, {granted}::bigint, 1::bigint,"
            f" 1::bigint, {ends_s}::float8, {wait_s}::float8, {reason} $$"
        )
    leases = Leases(Address(fleet_database.broker), "site-a")
    with pytest.raises(StateUnavailable, match="an invalid answer"):
        leases.lease({"web01": LeaseAsk(1, None, None)})
    leases.close()


def test_a_store_whose_fleet_was_removed_is_away(fleet_database, heartbeat, store) -> None:
    """Without the fleet's row calls are refused, and the broker continues."""
    asyncio.run(heartbeat.beat())
    assert store.changes(0).complete
    with psycopg.connect(fleet_database.owner, autocommit=True) as owner:
        owner.execute("DELETE FROM drawwell.fleet")
    asyncio.run(heartbeat.beat())

    assert "has no fleet" in heartbeat.report().trouble
    with pytest.raises(StateUnavailable, match="has no fleet"):
        store.changes(0)


def test_epochs_cannot_be_used_up_quickly(thief) -> None:
    """Each epoch takes time, even with many in one statement."""
    rows = thief.execute(
        "SELECT extract(epoch FROM clock_timestamp() - now()), drawwell.next_epoch()"
        " FROM generate_series(1, 6)"
    ).fetchall()

    assert [epoch for _, epoch in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[-1][0] >= 0.5
