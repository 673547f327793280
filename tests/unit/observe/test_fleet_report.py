"""The report of a fleet: troubles, series, page and table."""

from collections.abc import Callable
from typing import Any

import pytest

from drawwell.cli.doctor.fleet import fleet_findings
from drawwell.cli.fleet.status import _text
from drawwell.cli.style import PLAIN, Style
from drawwell.observe.fleet import fleet_troubles
from drawwell.observe.nagios import PluginState, plugin_line
from drawwell.observe.openmetrics import render
from drawwell.observe.page import page
from drawwell.reports import as_json
from support.reports import broker_report, fleet_report

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def fleet() -> dict[str, Any]:
    """Return the report of a healthy fleet."""
    return as_json(fleet_report())


@pytest.fixture
def well(fleet: dict[str, Any]) -> dict[str, Any]:
    """Return the report of a healthy broker in that fleet."""
    return as_json(broker_report()) | {"fleet": fleet, "ready": True, "guests": ()}


def site_b(**changes: object) -> Change:
    """Return a modification of the other broker."""
    return lambda fleet: fleet["brokers"][1].update(changes)


def source(**changes: object) -> Change:
    """Return a modification of the other broker's source."""
    return lambda fleet: fleet["brokers"][1]["sources"][0].update(changes)


def store(**changes: object) -> Change:
    """Return a modification of the store's report."""
    return lambda fleet: fleet.update(changes)


AWAY: dict[str, Any] = {"trouble": "connection refused", "away_s": 60.0}
MAY: dict[str, Any] = {"role": "drawwell_broker_well", "database": "wells"}
ALTER = """psql -c 'ALTER ROLE "drawwell_broker_well" NOSUPERUSER NOCREATEROLE'"""
REVOKE = """psql -d wells -c 'REVOKE ALL ON ALL TABLES IN SCHEMA drawwell FROM "drawwell_broker_well"'"""
TROUBLES = [
    (store(**AWAY), "has not answered for 60 s (leases last for another 14 min): connection refused", "pg_isready -d"),
    (store(**AWAY | {"away_s": 901.0}), "all leases have expired", "pg_isready -d"),
    (store(replication="asynchronous"), "is asynchronous", "psql -c"),
    (store(standbys=0), "waits for a standby", "psql -c"),
    (store(standby_lag_s=11.0), "11 s behind", "pg_isready"),
    (store(clock_ahead_s=-61.0), "differ by 61 s", "timedatectl"),
    (store(**MAY | {"role_may": "superuser, create roles, write to tables"}), "must not have: superuser", ALTER),
    (store(**MAY | {"role_may": "write to tables"}), "must not have: write", REVOKE),
    (site_b(seen_s=31.0), "site-b was last seen 31 s ago", "systemctl status drawwell-broker"),
    (site_b(ready=False, not_ready_because="no source"), "site-b cannot serve draws: no source", "drawwell doctor"),
    (site_b(unread_changes=3), "has not read 3 changes", "drawwell doctor"),
    (site_b(version="1.1"), "different versions: well 1.0, site-b 1.1", "apt install drawwell"),
    (source(state="off"), "of broker site-b is off", "drawwell doctor"),
    (source(simulated=True), "is simulated", "drawwell config"),
    (source(device="1" * 32), "share a device", "drawwell source"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "what", "type_this"), TROUBLES, ids=[each[1][:20] for each in TROUBLES])
def test_each_trouble_has_a_command(fleet: dict[str, Any], change: Change, what: str, type_this: str) -> None:
    """Each fault is one trouble, with the command to type."""
    change(fleet)
    (found,) = fleet_troubles(fleet)
    assert (what in found.what, type_this in found.type_this) == (True, True), found


def test_nothing_is_wrong_with_a_good_fleet(fleet: dict[str, Any]) -> None:
    """There is no trouble, and the doctor has one good finding."""
    assert list(fleet_troubles(fleet)) == []
    assert [each.level for each in fleet_findings({"fleet": fleet})] == ["good"]
    assert list(fleet_findings({"fleet": None})) == list(fleet_findings(None)) == []


def test_a_store_that_is_away_hides_what_is_old(fleet: dict[str, Any]) -> None:
    """A broker that cannot read the store does not report others as silent."""
    fleet.update(AWAY)
    fleet["brokers"][1]["seen_s"] = 90.0
    assert len(list(fleet_troubles(fleet))) == 1


def test_the_plugin_reports_the_fleet(well: dict[str, Any]) -> None:
    """A silent broker is a warning; a long store outage is critical."""
    assert plugin_line(well)[0] is PluginState.OK
    well["fleet"]["brokers"][1]["seen_s"] = 31.0
    assert plugin_line(well)[0] is PluginState.WARNING
    well["fleet"].update(AWAY, away_s=901.0)
    assert plugin_line(well)[0] is PluginState.CRITICAL


def test_the_series_are_those_of_the_fleet(well: dict[str, Any]) -> None:
    """Each broker has samples; without a fleet there are none."""
    text = render(well, names=False, openmetrics=False)
    for sample in (
        "drawwell_fleet_store_up 1",
        "drawwell_fleet_store_synchronous 1",
        'drawwell_fleet_broker_seen_seconds{broker="site-b"} 2',
        'drawwell_fleet_broker_leased_bytes{broker="well"} 4096',
        'drawwell_fleet_broker_info{broker="site-b",version="1.0"} 1',
        'drawwell_fleet_broker_sources_healthy{broker="site-b"} 1',
    ):
        assert f"\n{sample}\n" in text
    well["fleet"] = None
    assert "\ndrawwell_fleet" not in render(well, names=False, openmetrics=False)


def test_the_page_shows_the_fleet(well: dict[str, Any]) -> None:
    """Names are escaped; a broker without a fleet has no such part."""
    well["fleet"]["brokers"][1]["name"] = "<b>"
    text = page(well, names=False)
    assert "store answers in 4 ms, synchronous with 1 standby" in text
    assert "&lt;b&gt;" in text
    well["fleet"] = None
    assert 'id="fleet"' not in page(well, names=False)


def test_the_table_fits_a_terminal(fleet: dict[str, Any]) -> None:
    """In 80 columns the last columns are omitted and named; wide shows all."""
    problems = [{"what": "broker site-b is silent", "type": "systemctl status drawwell-broker"}]
    narrow = _text(fleet, problems, Style(width=80))
    assert max(map(len, narrow.splitlines())) <= 80
    assert "(address" in narrow
    assert "    systemctl status drawwell-broker" in narrow
    assert "site-b.example:55000" in _text(fleet, [], PLAIN)


def test_a_store_that_was_not_asked_yet_is_shown_so(fleet: dict[str, Any]) -> None:
    """Before the first answer nothing is claimed about its standbys."""
    store(replication="", standbys=0)(fleet)
    assert _text(fleet, [], PLAIN).startswith("fleet example: 2 brokers, store has not answered yet")
