"""Problems of a broker, each with the command that helps.

The status page and the plugins of monitoring systems use this one list.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from drawwell.observe.fleet import fleet_troubles
from drawwell.observe.trouble import Trouble
from drawwell.reports import Firmware, SourceState

_DAY_S: Final = 86_400.0
_CERTIFICATES: Final = {
    "ca": (60 * _DAY_S, "drawwell pki show"),
    "intermediate": (14 * _DAY_S, "drawwell pki show"),
}
"""When to warn of a CA's expiry, and which command helps. Other certificates are renewed."""
_OTHERS: Final = (2 * _DAY_S, "drawwell doctor")
_FAULTS: Final = {
    "audit_trouble": ("the audit log cannot be written, or its chain is broken", "drawwell audit verify"),
    "state_trouble": (
        "the state cannot be written, so draws that count against a quota are refused",
        "drawwell status",
    ),
    "signer_away": (
        "the signer does not answer, so receipts and enrolment are refused",
        "systemctl start drawwell-signer",
    ),
}
"""Critical faults, by the field of the report: a text, and which command helps."""
LOW_RESERVOIR: Final = 0.1
"""The level that is reported as low, as a fraction of the capacity."""


def troubles(report: Mapping[str, Any]) -> list[Trouble]:
    """Return the problems, most serious first.

    Args:
        report: A `BrokerReport` or a `LinkReport` in its JSON form.
    """
    if "upstreams" in report:
        return list(_of_links(report))
    found = [*_of_sources(report), *_of_broker(report), *_of_fleet(report)]
    if not report["ready"] and not any(each.critical for each in found):
        found.insert(0, Trouble(report["not_ready_because"], critical=True))
    return sorted(found, key=lambda each: not each.critical)


def _of_links(report: Mapping[str, Any]) -> Iterator[Trouble]:
    for each in report["upstreams"]:
        if not each["ready"]:
            what = f"broker {each['url']}: {each['not_ready_because']}"
            yield Trouble(what, "drawwell link list", critical=not report["ready"])
        left_s = each["certificate_left_s"]
        if left_s is not None and left_s < _OTHERS[0]:
            yield Trouble(f"the certificate for {each['url']} expires soon", "drawwell renew")


def _of_sources(report: Mapping[str, Any]) -> Iterator[Trouble]:
    alone = not report["ready"]
    for source in report["sources"]:
        identity, state = source["identity"], source["state"]
        name = identity["name"]
        if source["paused"]:
            yield Trouble(f"source {name} is paused", f"drawwell onerng resume {name}", alone)
        elif source["stalled"] or state != SourceState.HEALTHY:
            why = f": {source['last_error']}" if source["last_error"] else ""
            how = "silent" if source["stalled"] else str(state)
            yield Trouble(f"source {name} is {how}{why}", critical=alone)
        if identity["simulated"]:
            yield Trouble(f"source {name} is simulated", "drawwell config show")
        if identity["firmware"] == Firmware.NOT_VERIFIED:
            yield Trouble(f"the firmware of source {name} is not verified", "drawwell onerng verify")


def _of_broker(report: Mapping[str, Any]) -> Iterator[Trouble]:
    for name, (what, type_this) in _FAULTS.items():
        if report[name]:
            yield Trouble(what, type_this, critical=True)
    if not report["ledger"]["balanced"]:
        yield Trouble("the ledger does not balance", "drawwell report-bug", critical=True)
    if report["reservoir_bytes"] < LOW_RESERVOIR * report["reservoir_capacity_bytes"]:
        yield Trouble("the reservoir is nearly empty", "drawwell status")
    for each in report["certificates"]:
        warning_s, type_this = _CERTIFICATES.get(each["name"], _OTHERS)
        if each["left_s"] < warning_s:
            yield Trouble(f"the certificate {each['name']} expires soon", type_this)
    for each in report["guests"]:
        if each["fault"] or each["waits"]:
            why = each["fault"] or each["waits"]
            verify = f"drawwell guest verify {each['kind']} {each['name']}"
            yield Trouble(f"guest {each['name']}: {why}", verify)
    if report["clock_jumped"]:
        yield Trouble("the clock jumped")


def _of_fleet(report: Mapping[str, Any]) -> Iterator[Trouble]:
    """Yield the fleet's problems except those of this broker."""
    if fleet := report.get("fleet"):
        yield from fleet_troubles(fleet, reported=report["name"])
