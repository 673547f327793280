"""Effects of a failing primary, with negative controls."""

import threading

import psycopg
import pytest

from drawwell.entropy.leased_quota import LeaseAsk
from drawwell.errors import StateUnavailable
from drawwell.fleet.checks import Wanted
from drawwell.fleet.connection import Address, StoreConnection
from drawwell.fleet.leases import Leases
from drawwell.testing.waiting import wait_until
from drawwell.units import Allowance
from support.postgres import pair, require_postgres

pytestmark = pytest.mark.slow

TOTAL = Allowance(100_000, 200 * 365 * 86400.0)


@pytest.fixture(scope="module", params=[True], ids=["synchronous"])
def both(request):
    require_postgres()
    with pair(synchronous=request.param) as made:
        yield made


def lease(leases, want=1000):
    return leases.lease({"web01": LeaseAsk(want, None, TOTAL)})["web01"].granted_bytes


def spent(server, database):
    rows = server.sql("SELECT coalesce(sum(granted), 0)::bigint FROM drawwell.lease", database)
    return rows[0][0]


def test_a_commit_that_was_cancelled_grants_nothing(both) -> None:
    """A cancelled wait for the standby is a warning and grants nothing.

    The negative control: plain SQL sees the grant, and the standby never had it.
    """
    made = both.database()
    database = psycopg.conninfo.conninfo_to_dict(made.broker)["dbname"]
    leases = Leases(Address(made.broker), "site-a")
    lease(leases)
    both.standby.pause()
    outcome: list[object] = []

    def attempt() -> None:
        try:
            outcome.append(lease(leases))
        except StateUnavailable as error:
            outcome.append(error)

    thread = threading.Thread(target=attempt)
    thread.start()
    waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    rows = wait_until(lambda: both.primary.sql(waiting), "the commit waits for the standby")
    before = spent(both.primary, database)
    both.primary.sql(f"SELECT pg_cancel_backend({rows[0][0]})")
    thread.join()
    leases.close()

    assert isinstance(outcome[0], StateUnavailable)
    assert "notice" in str(outcome[0])
    assert spent(both.primary, database) > before  # what a client that ignores notices would serve
    both.standby.resume()


def test_a_sequence_hands_out_a_number_that_the_standby_has_not(both) -> None:
    """Epochs wait for the standby, but a sequence does not.

    The negative control: `nextval` returns while the record of it still waits.
    """
    made = both.database()
    database = psycopg.conninfo.conninfo_to_dict(made.owner)["dbname"]
    both.primary.sql("CREATE SEQUENCE control", database)
    both.standby.pause()
    first = threading.Thread(target=lambda: both.primary.sql("SELECT nextval('control')", database))
    first.start()
    wait_until(
        lambda: both.primary.sql("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"), "waits"
    )
    assert both.primary.sql("SELECT nextval('control')", database) == [(2,)]

    # short: the wait is the fact
    connection = StoreConnection(Address(made.broker), "site-a", deadline_s=1.0)
    with pytest.raises(StateUnavailable):
        connection.call("next_epoch")
    connection.close()
    both.standby.resume()
    first.join()


def test_no_second_write_waits_for_a_standby_that_is_away(both) -> None:
    """Writes are refused while an earlier one waits for the standby."""
    made = both.database()
    both.standby.pause()
    name = "site-waits"
    first = StoreConnection(Address(made.broker), name, deadline_s=1.0)  # short: the wait is the fact
    with pytest.raises(StateUnavailable):
        first.call("next_epoch")
    second = StoreConnection(Address(made.broker), name)
    with pytest.raises(StateUnavailable, match="waits for the synchronous standby"):
        second.call("next_epoch")
    first.close()
    second.close()
    both.standby.resume()
    waiting = f"SELECT 1 FROM pg_stat_activity WHERE application_name = 'drawwell {name} w'"
    wait_until(lambda: not both.primary.sql(waiting), "the server forgets the client")
    wait_until(lambda: _called(second), "a write again")
    second.close()


def test_a_synchronous_standby_knows_every_grant() -> None:
    """If the primary is killed during leases, the total is not exceeded."""
    require_postgres()
    with pair() as made:
        assert granted_over_a_failure(made) <= TOTAL.limit_bytes


def test_an_asynchronous_standby_exceeds_the_total() -> None:
    """Negative control: without synchronous commits the total is exceeded."""
    require_postgres()
    with pair(synchronous=False) as made:
        assert granted_over_a_failure(made, allow_async=True) > TOTAL.limit_bytes


def test_an_asynchronous_standby_is_refused() -> None:
    """An asynchronous standby is refused unless allowed."""
    require_postgres()
    with pair(synchronous=False) as made:
        address = made.database().broker
        connection = StoreConnection(Address(address), "site-a")
        with pytest.raises(StateUnavailable, match="asynchronous standby") as caught:
            connection.call("next_epoch")
        assert "allow_async" in (caught.value.hint or "")
        allowed = StoreConnection(Address(address, Wanted(allow_async=True)), "site-a")
        assert allowed.call("next_epoch") == [(1,)]
        allowed.close()


def granted_over_a_failure(made, *, allow_async=False) -> int:
    """Lease without a standby, kill the primary, and lease the rest."""
    database = made.database()
    leases = Leases(Address(database.broker, Wanted(allow_async=allow_async)), "site-a")
    granted = sum(lease(leases) for _ in range(5))
    position = made.primary.sql("SELECT pg_current_wal_lsn()")[0][0]
    caught_up = f"SELECT pg_last_wal_replay_lsn() >= '{position}'"
    wait_until(lambda: made.standby.sql(caught_up)[0][0], "the standby has the first leases")
    made.standby.kill()  # pausing is not enough: data in its kernel's buffers is not lost
    hurried = Leases(Address(database.broker, Wanted(allow_async=allow_async)), "site-b")
    thread = threading.Thread(target=lambda: more.append(_or_nothing(hurried)))
    more: list[int] = []
    thread.start()
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    wait_until(lambda: more or made.primary.sql(waiting), "the lease is granted, or waits")
    made.primary.kill()
    thread.join()
    made.standby.start()
    made.standby.promote()
    granted += sum(more)
    granted += wait_until(lambda: _or_nothing(leases, 1), "the new primary grants")
    while got := lease(leases, 1):
        granted += got
    leases.close()
    hurried.close()
    return granted


def _called(connection) -> bool:
    try:
        return bool(connection.call("next_epoch"))
    except StateUnavailable:
        return False


def _or_nothing(leases, want=1000) -> int:
    try:
        return lease(leases, want)
    except StateUnavailable:
        return 0
