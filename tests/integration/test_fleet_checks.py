"""Faults of the store that stop a broker's start, each with a hint."""

import sys
import time

import pytest
from psycopg.conninfo import make_conninfo

from drawwell.config.load import load
from drawwell.errors import ConfigError, MissingExtra, StateUnavailable
from drawwell.fleet.checks import Wanted, judge
from drawwell.fleet.connection import Address, StoreConnection, attempts
from drawwell.fleet.schema import VERSION
from drawwell.roles.join_fleet import join_fleet
from support.certificates import PaperAuthority
from support.daemon import command, hinted
from support.postgres import OWNER, require_postgres, server


def refusal(conninfo: str, wanted: Wanted | None = None) -> StateUnavailable:
    """Return the error of the first call."""
    connection = StoreConnection(Address(conninfo, wanted or Wanted()), "site-a")
    with pytest.raises(StateUnavailable) as caught:
        connection.call("about")
    connection.close()
    assert caught.value.hint
    return caught.value


def test_a_database_without_a_fleet_is_refused(postgres) -> None:
    """For an empty or missing database the hint is 'fleet init'."""
    for database in ("postgres", "none_such"):
        error = refusal(postgres.address(database, "postgres"))
        assert "drawwell fleet init" in (error.hint or "")


def test_a_server_that_is_not_there_is_named(postgres) -> None:
    """The message contains the unused port and a time."""
    error = refusal(f"host={postgres.host} port=1 dbname=x user=y")

    assert "refused" in str(error)
    assert "not available since" in str(error)


def test_brokers_do_not_return_to_a_store_all_at_once(postgres, fleet_database) -> None:
    """Each broker waits for its own share of the pause, then connects."""
    soon, late = (
        StoreConnection(Address(fleet_database.broker), "site-a", jitter=lambda share=share: share)
        for share in (0.0, 1e6)
    )
    postgres.kill()
    try:
        for connection in (soon, late):
            with pytest.raises(StateUnavailable):
                connection.call("about")
    finally:
        postgres.start()
    assert soon.call("about")
    with pytest.raises(StateUnavailable):
        late.call("about")
    soon.close()
    late.close()


def test_the_store_of_another_fleet_is_refused(fleet_database) -> None:
    """The store's name must equal the configured name."""
    error = refusal(fleet_database.broker, Wanted(fleet="other"))

    assert "belongs to the fleet 'test', not to 'other'" in str(error)


def test_a_role_without_the_functions_is_refused(postgres, fleet_database) -> None:
    """A role without permission is refused."""
    if not postgres.sql("SELECT 1 FROM pg_roles WHERE rolname = 'stranger'"):
        postgres.sql("CREATE ROLE stranger LOGIN")
    database = fleet_database.broker.split("dbname=")[1].split()[0]
    postgres.sql(f"GRANT CONNECT ON DATABASE {database} TO stranger")

    assert "permission denied" in str(refusal(make_conninfo(fleet_database.owner, user="stranger")))


def test_a_newer_schema_is_refused_only_if_it_needs_a_newer_broker(postgres, fleet_database) -> None:
    """A migration that is compatible with older brokers does not stop them."""
    database = fleet_database.owner.split("dbname=")[1].split()[0]
    postgres.sql(f"UPDATE drawwell.fleet SET version = {VERSION + 1} RETURNING 1", database)
    connection = StoreConnection(Address(fleet_database.broker), "site-a")
    assert connection.call("about")
    connection.close()

    postgres.sql(f"UPDATE drawwell.fleet SET oldest = {VERSION + 1} RETURNING 1", database)
    assert "supports only" in str(refusal(fleet_database.broker))


def test_an_older_schema_is_refused(postgres, fleet_database) -> None:
    """The error for an older schema names the command to migrate it."""
    database = fleet_database.owner.split("dbname=")[1].split()[0]
    postgres.sql(f"UPDATE drawwell.fleet SET version = {VERSION - 1} RETURNING 1", database)

    assert "fleet init" in (refusal(fleet_database.broker).hint or "")


@pytest.mark.parametrize("apart_s", [-86400.0, 86400.0])
def test_a_clock_apart_by_a_day_is_refused(apart_s) -> None:
    """A store with a clock that differs by a day is refused."""
    row = ("test", VERSION, 1, time.time() + apart_s, 0, "", "on", "", "")
    with pytest.raises(StateUnavailable, match="24 hours") as caught:
        judge(row, Wanted())
    assert "clocks" in (caught.value.hint or "")


def test_a_role_that_may_too_much_is_named(fleet_database) -> None:
    """A broker with the owner's role works, and the role is reported."""
    connection = StoreConnection(Address(fleet_database.owner), "site-a")
    connection.call("about")
    assert connection.standing
    assert "write to tables" in connection.standing.too_much
    connection.close()
    proper = StoreConnection(Address(fleet_database.broker), "site-a")
    proper.call("about")
    assert proper.standing
    assert proper.standing.too_much == ""
    proper.close()


@pytest.mark.parametrize(
    "conninfo",
    [
        "postgresql://u@db1/drawwell",
        "postgresql://u@db1,db2/drawwell?sslmode=require",
        "host=/run/postgresql,10.0.0.1 dbname=drawwell",
        "service=drawwell",
    ],
)
def test_tls_to_another_machine_must_be_verified(conninfo) -> None:
    """An address that would accept any certificate is refused."""
    with pytest.raises(ConfigError, match="not verified") as caught:
        attempts(conninfo, "site-a")
    assert "sslmode=verify-full" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "conninfo", ["host=/run/postgresql", "postgresql://localhost/x", "host=db1 sslmode=verify-full"]
)
def test_an_address_on_this_machine_needs_no_tls(conninfo) -> None:
    """Unix sockets and loopback need no TLS; other hosts are verified."""
    assert attempts(conninfo, "site-a")


def test_what_is_no_address_is_refused() -> None:
    """Text that libpq cannot parse is a configuration fault."""
    with pytest.raises(ConfigError, match="is invalid"):
        attempts("postgresql://u@db1/x?no=such", "site-a")


def test_each_host_is_tried_by_itself() -> None:
    """Each host's address has its own port and the common settings."""
    found = attempts("postgresql://u@/d?host=/a,/b&port=1,2", "site-a")

    assert ["host=/a port=1" in found[0], "host=/b port=2" in found[1]] == [True, True]
    assert all("target_session_attrs=read-write" in each for each in found)


def test_a_store_that_tls_does_not_verify_is_refused(folder, postgres) -> None:
    """Another CA, another name and no TLS are named, each with a hint."""
    require_postgres()
    ours, theirs = PaperAuthority(folder), PaperAuthority(folder, "other")
    certificate, key, _ca = theirs.server("localhost")
    with server() as one:
        one.serve_tls(certificate, key)
        made = one.database()
        right, wrong = (f"{made.broker} sslmode=verify-ca sslrootcert={each.ca}" for each in (theirs, ours))
        cases = {
            wrong: ("certificate verify failed", "sslrootcert"),
            right.replace("verify-ca", "verify-full"): ("does not match host name", "as the host"),
            right.replace(one.host, postgres.host): ("does not support SSL", "ssl = on"),
            f"{right}.missing": ("root certificate file", "sslrootcert"),
            wrong.replace("port=5432", "port=5432,1").replace(one.host, f"{one.host},{one.host}"): (
                "certificate verify failed",
                "sslrootcert",
            ),
        }
        for conninfo, (reason, hint) in cases.items():
            error = refusal(conninfo)
            assert [reason in str(error), hint in (error.hint or "")] == [True, True], error
        connection = StoreConnection(Address(right), "site-a")
        assert connection.call("about")
        connection.close()


def test_a_broker_without_psycopg_names_the_package(folder, monkeypatch) -> None:
    """[fleet] without the client library is refused with what to install."""
    path = folder / "drawwell.toml"
    path.write_text('[fleet]\nstore = "host=/run/postgresql"\n')
    monkeypatch.setitem(sys.modules, "psycopg", None)
    for name in [each for each in sys.modules if each.startswith("drawwell.fleet.")]:
        monkeypatch.delitem(sys.modules, name)

    with pytest.raises(MissingExtra) as caught:
        join_fleet(load(str(path)), follow, time.time, dict)
    assert "python3-psycopg" in (caught.value.hint or "")


async def follow(_changes) -> None:
    """Do nothing."""


def test_a_store_that_fails_holds_up_one_thread(folder) -> None:
    """While one call retries a failed store, others are refused."""
    connection = StoreConnection(Address(f"host={folder} dbname=x"), "site-a")
    with pytest.raises(StateUnavailable):
        connection.call("about")
    with (
        connection._lock,
        pytest.raises(StateUnavailable, match="another call is still waiting for an answer"),
    ):
        connection.call("about")


def test_a_password_in_the_configuration_is_refused(folder) -> None:
    """The error suggests a passfile and does not repeat the address."""
    path = folder / "drawwell.toml"
    path.write_text('[fleet]\nstore = "postgresql://u:hunter2@db1/x?sslmode=verify-full"\n')
    with pytest.raises(ConfigError) as caught:
        load(str(path))
    faults = " ".join(caught.value.faults)
    assert "passfile" in faults
    assert "hunter2" not in faults


@pytest.mark.slow
def test_a_broker_whose_store_is_away_does_not_start(folder) -> None:
    """The command exits with 74, the reason and a hint."""
    path = folder / "drawwell.toml"
    path.write_text(
        f'[broker]\nstate_dir = "{folder}/state"\nrun_dir = "{folder}/run"\n[[source]]\ndriver = "replay"\n'
        f'path = "/dev/null"\nmin_entropy = 1\n[fleet]\nstore = "host={folder} user={OWNER} dbname=x"\n'
    )
    done = command("broker", config=path)

    assert (done.returncode, "fleet's store" in done.stderr) == (74, True)
    assert hinted(done)
