"""What is wrong with a broker, and what to type.

One list for the status page and for plugins of monitoring systems.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from drawwell.reports import Firmware, SourceState

CERTIFICATE_WARNING_S: Final = 2 * 86_400.0
LOW_RESERVOIR: Final = 0.1
"""Part of the capacity."""
_DOCTOR: Final = "drawwell doctor"


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that is wrong.

    `critical` if no draw or no proof can be had meanwhile.
    """

    what: str
    type_this: str = _DOCTOR
    critical: bool = False


def troubles(report: Mapping[str, Any]) -> list[Trouble]:
    """Return what is wrong, the worst first.

    Args:
        report: A `BrokerReport`, in its JSON form.
    """
    found = [*_of_sources(report), *_of_broker(report)]
    if not report["ready"] and not any(each.critical for each in found):
        found.insert(0, Trouble(report["not_ready_because"], critical=True))
    return sorted(found, key=lambda each: not each.critical)


def _of_sources(report: Mapping[str, Any]) -> Iterator[Trouble]:
    alone = not report["ready"]
    for source in report["sources"]:
        identity, state = source["identity"], source["state"]
        name = identity["name"]
        if source["paused"]:
            yield Trouble(f"source {name} is paused", f"drawwell source resume {name}", alone)
        elif source["stalled"] or state != SourceState.HEALTHY:
            why = f": {source['last_error']}" if source["last_error"] else ""
            how = "silent" if source["stalled"] else str(state)
            yield Trouble(f"source {name} is {how}{why}", critical=alone)
        if identity["simulated"]:
            yield Trouble(f"source {name} is simulated", "drawwell config show")
        if identity["firmware"] == Firmware.NOT_VERIFIED:
            yield Trouble(f"the firmware of source {name} is not verified", "drawwell onerng verify")


def _of_broker(report: Mapping[str, Any]) -> Iterator[Trouble]:
    if report["audit_trouble"]:
        what = "the audit log is not written, or its chain is broken"
        yield Trouble(what, "drawwell audit verify", critical=True)
    if not report["ledger"]["balanced"]:
        yield Trouble("the ledger does not balance", "drawwell report-bug", critical=True)
    if report["reservoir_bytes"] < LOW_RESERVOIR * report["reservoir_capacity_bytes"]:
        yield Trouble("the reservoir is nearly empty", "drawwell status")
    for each in report["certificates"]:
        if each["left_s"] < CERTIFICATE_WARNING_S:
            yield Trouble(f"the certificate {each['name']} ends soon")
    for each in report["guests"]:
        if each["fault"] or each["waits"]:
            why = each["fault"] or each["waits"]
            verify = f"drawwell guest verify {each['kind']} {each['name']}"
            yield Trouble(f"guest {each['name']}: {why}", verify)
    if report["clock_jumped"]:
        yield Trouble("the clock jumped")
