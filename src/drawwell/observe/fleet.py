"""Problems of a fleet, each with the command that helps."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from drawwell.observe.trouble import Trouble
from drawwell.reports import SourceState
from drawwell.units import format_duration

SILENT_S: Final = 30.0
"""A broker that has not reported for this long is silent; brokers report every 5 s."""
CLOCKS_APART_S: Final = 60.0
STANDBY_LAG_S: Final = 10.0
_ATTRIBUTES: Final = {
    "superuser": "NOSUPERUSER",
    "create roles": "NOCREATEROLE",
    "create databases": "NOCREATEDB",
}
"""Rights in `role_may`, and the options of ALTER ROLE that take them away."""
_ON_PRIMARY: Final = "psql -c 'SHOW synchronous_standby_names'"


def fleet_troubles(fleet: Mapping[str, Any], reported: str = "") -> Iterator[Trouble]:
    """Yield the problems.

    Args:
        fleet: A `FleetReport` in its JSON form.
        reported: A broker whose own state is reported elsewhere.
    """
    if fleet["trouble"]:
        left_s = fleet["grace_s"] - fleet["away_s"]
        rest = (
            f"leases last for another {format_duration(left_s)}" if left_s > 0 else "all leases have expired"
        )
        yield Trouble(
            f"the fleet's store has not answered for {format_duration(fleet['away_s'])} ({rest}):"
            f" {fleet['trouble']}",
            f"pg_isready -d '{fleet['store']}'",
            critical=left_s <= 0,
        )
    else:
        yield from _of_store(fleet)
    for broker in (each for each in fleet["brokers"] if each["name"] != reported):
        yield from _of_broker(broker, known=not fleet["trouble"])
    yield from _of_versions([each for each in fleet["brokers"] if each["seen_s"] < SILENT_S])
    yield from _of_devices(fleet["brokers"])


def is_silent(broker: Mapping[str, Any]) -> bool:
    """Return whether a broker has not reported for too long."""
    return float(broker["seen_s"]) >= SILENT_S


def broker_state(broker: Mapping[str, Any]) -> str:
    """Return a short description of a broker's state."""
    if is_silent(broker):
        return "silent"
    return "ready" if broker["ready"] else "NOT READY"


def store_state(fleet: Mapping[str, Any]) -> str:
    """Describe the store in one line."""
    if fleet["trouble"]:
        return f"store has not answered for {format_duration(fleet['away_s'])}"
    if not fleet["replication"]:
        return "store has not answered yet"
    if fleet["replication"] == "single":
        standby = "no standby"
    else:
        count = fleet["standbys"]
        standby = f"{fleet['replication']} with {count} standby{'s' if count != 1 else ''}"
    lag = "" if fleet["standby_lag_s"] is None else f", {fleet['standby_lag_s']:.2g} s behind"
    return f"store answers in {fleet['answer_s'] * 1000:.0f} ms, {standby}{lag}"


def _of_store(fleet: Mapping[str, Any]) -> Iterator[Trouble]:
    if fleet["replication"] == "asynchronous":
        what = "the standby of the fleet's store is asynchronous: quotas may be exceeded if the primary fails"
        yield Trouble(what, _ON_PRIMARY)
    if fleet["replication"] == "synchronous" and not fleet["standbys"]:
        what = "the fleet's store waits for a standby, but none is connected: no quota can be leased"
        yield Trouble(what, "psql -c 'SELECT * FROM pg_stat_replication'", critical=True)
    if (fleet["standby_lag_s"] or 0) > STANDBY_LAG_S:
        lag = format_duration(fleet["standby_lag_s"])
        yield Trouble(f"the standby of the fleet's store is {lag} behind", "pg_isready")
    if abs(fleet["clock_ahead_s"]) > CLOCKS_APART_S:
        apart = format_duration(abs(fleet["clock_ahead_s"]))
        yield Trouble(f"the clocks of this machine and the fleet's store differ by {apart}", "timedatectl")
    if fleet["role_may"]:
        what = f"the broker's role in the fleet's store has rights that it must not have: {fleet['role_may']}"
        yield Trouble(what, _taking_rights(fleet))


def _taking_rights(fleet: Mapping[str, Any]) -> str:
    """Return the owner's command that takes the role's rights away."""
    away = " ".join(_ATTRIBUTES[each] for each in fleet["role_may"].split(", ") if each in _ATTRIBUTES)
    if away:
        return f"""psql -c 'ALTER ROLE "{fleet["role"]}" {away}'"""
    revoke = f"""REVOKE ALL ON ALL TABLES IN SCHEMA drawwell FROM "{fleet["role"]}"'"""
    return f"psql -d {fleet['database']} -c '{revoke}"


def _of_broker(broker: Mapping[str, Any], *, known: bool) -> Iterator[Trouble]:
    name = broker["name"]
    if is_silent(broker):
        if known:
            seen = format_duration(broker["seen_s"])
            yield Trouble(f"broker {name} was last seen {seen} ago", "systemctl status drawwell-broker")
        return
    if not broker["ready"]:
        yield Trouble(f"broker {name} cannot serve draws: {broker['not_ready_because']}")
    for source in broker["sources"]:
        if source["state"] != SourceState.HEALTHY:
            yield Trouble(f"source {source['name']} of broker {name} is {source['state']}")
        if source["simulated"]:
            yield Trouble(f"source {source['name']} of broker {name} is simulated", "drawwell config show")
    if broker["unread_changes"]:
        count = broker["unread_changes"]
        yield Trouble(f"broker {name} has not read {count} changes and may still serve revoked consumers")


def _of_versions(brokers: Sequence[Mapping[str, Any]]) -> Iterator[Trouble]:
    if len({each["version"] for each in brokers}) > 1:
        versions = ", ".join(f"{each['name']} {each['version']}" for each in brokers)
        yield Trouble(f"the brokers have different versions: {versions}", "apt install drawwell")


def _of_devices(brokers: Sequence[Mapping[str, Any]]) -> Iterator[Trouble]:
    counts = Counter(
        device for each in brokers for device in {source["device"] for source in each["sources"]} if device
    )
    for device in (each for each, count in counts.items() if count > 1):
        sharing = [b["name"] for b in brokers if device in {s["device"] for s in b["sources"]}]
        yield Trouble(f"brokers {' and '.join(sharing)} share a device", "drawwell source list")
