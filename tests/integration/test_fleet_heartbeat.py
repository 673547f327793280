"""Brokers' rows in a real PostgreSQL, and the fleet report."""

import asyncio
import contextlib
import os
import shlex
import subprocess
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.json import Jsonb

from drawwell.fleet.checks import Wanted
from drawwell.fleet.connection import Address
from drawwell.fleet.heartbeat import Heartbeat
from drawwell.fleet.own_row import OwnRow
from drawwell.observe.fleet import fleet_troubles
from drawwell.reports import as_json

if TYPE_CHECKING:
    from support.postgres import FleetDatabase, Server


Make = Callable[..., Heartbeat]
SOURCE = {"name": "stick", "kind": "onerng", "state": "healthy", "simulated": False, "device": "d" * 32}
REPORT: dict[str, Any] = {
    "ready": True, "not_ready_because": "", "sources": [SOURCE], "sessions": 2, "leases": 1,
    "leased_bytes": 4096,
}  # fmt: skip


@pytest.fixture
def heartbeat() -> Iterator[Make]:
    """Return a factory of heartbeats for healthy brokers."""
    with contextlib.ExitStack() as stack:

        def make(address: str, name: str, *, version: str = "1.0", changes_read: int = 0) -> Heartbeat:
            row = OwnRow([f"{name}:55000"], "c" * 64, "PEM", version, REPORT, changes_read)
            wanted = Wanted("test", allow_async=True)
            made = Heartbeat(Address(address, wanted), name, 900.0, lambda: row)
            stack.callback(made.close)
            return made

        yield make


def beat(*beats: Heartbeat) -> None:
    """Let each heartbeat write and read once."""

    async def run() -> None:
        for each in beats:
            await each.beat()

    asyncio.run(run())


def troubles(of: Heartbeat) -> list[str]:
    """Return the troubles in its report."""
    return [each.what for each in fleet_troubles(as_json(of.report()))]


def test_what_is_typed_takes_rights_away(
    heartbeat: Make, postgres: "Server", fleet_database: "FleetDatabase"
) -> None:
    """The commands shown take from a role all rights that it must not have."""
    names = conninfo_to_dict(fleet_database.broker)
    postgres.sql(f'ALTER ROLE "{names["user"]}" SUPERUSER CREATEROLE CREATEDB')
    postgres.sql(f'GRANT INSERT, UPDATE ON drawwell.consumers TO "{names["user"]}"', str(names["dbname"]))
    broker = heartbeat(fleet_database.broker, "site-a")
    owner = {**os.environ, "PGHOST": postgres.host, "PGUSER": "postgres"}
    for right in ("superuser, create roles, create databases, write to tables", "write to tables"):
        beat(broker)
        (found,) = fleet_troubles(as_json(broker.report()))
        assert found.what.endswith(f": {right}")
        subprocess.run(shlex.split(found.type_this), env=owner, check=True)
    beat(broker)
    assert troubles(broker) == []


def test_each_broker_sees_all(heartbeat: Make, fleet_database: "FleetDatabase") -> None:
    """Two brokers write their rows, and the first one reads both."""
    a, b = heartbeat(fleet_database.of("a"), "a"), heartbeat(fleet_database.of("b"), "b")
    beat(a, b, a)
    report = a.report()
    assert [(each.name, each.ready, each.addresses) for each in report.brokers] == [
        ("a", True, ("a:55000",)),
        ("b", True, ("b:55000",)),
    ]
    assert (report.name, report.replication, report.trouble) == ("test", "single", "")
    assert report.brokers[0].sources[0].device == "d" * 32
    assert [row["receipt_key"] for row in a.rows()] == ["PEM", "PEM"]


def test_one_device_at_two_brokers_is_a_trouble(heartbeat: Make, fleet_database: "FleetDatabase") -> None:
    """Both have the same stick, and different versions of the program."""
    a, b = heartbeat(fleet_database.of("a"), "a"), heartbeat(fleet_database.of("b"), "b", version="1.1")
    beat(a, b, a)
    assert troubles(a) == [
        "the brokers have different versions: a 1.0, b 1.1",
        "brokers a and b share a device",
    ]


def test_changes_that_are_not_read_are_counted(heartbeat: Make, fleet_database: "FleetDatabase") -> None:
    """A broker that did not apply changes from before a beat is behind."""
    a = heartbeat(fleet_database.of("a"), "a")
    beat(a)
    with psycopg.connect(fleet_database.owner, autocommit=True) as owner:
        owner.execute("SELECT drawwell.note_change('web01')")
    beat(a)
    assert troubles(a) == []
    beat(a)
    assert troubles(a) == ["broker a has not read 1 changes and may still serve revoked consumers"]


@pytest.mark.parametrize("report", [[], {"sources": 1, "sessions": "x"}, {"sources": [1, {}]}])
def test_a_row_of_another_version_is_read(
    heartbeat: Make, fleet_database: "FleetDatabase", report: object
) -> None:
    """Missing fields, and fields of another type, get their defaults."""
    with psycopg.connect(fleet_database.of("z"), autocommit=True) as db:
        db.execute("SELECT drawwell.beat('{}', '', '', '9.9', %s)", (Jsonb(report),))
    a = heartbeat(fleet_database.of("a"), "a")
    beat(a)
    (_, z) = a.report().brokers
    assert (z.name, z.version, z.ready, z.sessions) == ("z", "9.9", False, 0)


def test_what_a_row_holds_does_no_harm_on_a_terminal(
    heartbeat: Make, fleet_database: "FleetDatabase"
) -> None:
    """Control characters are replaced, and long texts are cut."""
    with psycopg.connect(fleet_database.of("z"), autocommit=True) as db:
        evil = Jsonb({"not_ready_because": "\x1b[2J" + "x" * 1000})
        db.execute("SELECT drawwell.beat(ARRAY['\x1b]z'], '', '', '9\n9', %s)", (evil,))
    a = heartbeat(fleet_database.of("a"), "a")
    beat(a)
    z = a.report().brokers[-1]
    assert (z.addresses, z.version) == (("?]z",), "9?9")
    assert z.not_ready_because == "?[2J" + "x" * 196


def test_a_store_that_is_away_is_reported(heartbeat: Make, postgres: object) -> None:
    """Known brokers stay listed, with growing age."""
    from support.postgres import server

    assert postgres
    with server() as one:
        a = heartbeat(one.database().of("a"), "a")
        beat(a)
        one.kill()
        beat(a)
        report = a.report()
        assert report.trouble.startswith("the fleet's store is not available since")
        assert report.away_s > 0
        assert report.brokers[0].seen_s > 0


def test_a_standby_that_is_away_stops_no_heartbeat(heartbeat: Make, postgres: object) -> None:
    """The row is written even if no standby confirms it."""
    from support.postgres import pair

    assert postgres
    with pair() as both:
        a = heartbeat(both.database().of("a"), "a")
        beat(a)
        assert (a.report().replication, a.report().standbys) == ("synchronous", 1)
        both.standby.kill()
        both.primary.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_replication")
        beat(a)
        assert a.report().standbys == 0
        assert troubles(a) == [
            "the fleet's store waits for a standby, but none is connected: no quota can be leased"
        ]
