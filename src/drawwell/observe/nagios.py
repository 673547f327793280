"""A broker's state as one line for Nagios and Icinga.

The format and the exit codes follow the Monitoring Plugins development guidelines.
"""

from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import Any

from drawwell.observe.troubles import LOW_RESERVOIR, troubles


class PluginState(IntEnum):
    """The exit codes of a plugin."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


def plugin_line(report: Mapping[str, Any]) -> tuple[PluginState, str]:
    """Return the state and the line, with performance data after the bar.

    Args:
        report: A `BrokerReport` or a `LinkReport` in its JSON form.
    """
    found = troubles(report)
    state = PluginState.OK
    if found:
        state = PluginState.CRITICAL if found[0].critical else PluginState.WARNING
    text = "; ".join(each.what for each in found) or _well(report)
    return state, f"DRAWWELL {state.name} - {_one_line(text)} | {' '.join(_figures(report))}"


def _well(report: Mapping[str, Any]) -> str:
    if "upstreams" in report:
        return f"{_ready_brokers(report)} of {len(report['upstreams'])} brokers ready"
    return f"{report['healthy_sources']} of {len(report['sources'])} sources healthy"


def _ready_brokers(report: Mapping[str, Any]) -> int:
    return sum(each["ready"] for each in report["upstreams"])


def _figures(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield 'label'=value[unit];warning;critical;minimum;maximum."""
    if "upstreams" in report:
        yield f"ready={_ready_brokers(report)};;1:;0;{len(report['upstreams'])}"
        yield f"draws={report['draws']}c;;;0;"
        yield f"drawn={report['drawn_bytes']}B;;;0;"
        return
    sources, wanted = len(report["sources"]), report["min_sources"]
    yield f"healthy={report['healthy_sources']};;{wanted}:;0;{sources}"
    capacity = report["reservoir_capacity_bytes"]
    yield f"reservoir={report['reservoir_bytes']}B;{int(LOW_RESERVOIR * capacity)}:;;0;{capacity}"
    yield f"supply={report['supply_bytes_per_s']:.0f}B;;;0;"
    yield f"full={report['ledger']['delivered_bits'] // 8}c;;;0;"
    yield f"drbg={report['ledger']['drbg_bytes']}c;;;0;"


def _one_line(text: str) -> str:
    """Remove line breaks and bars, because a bar begins performance data."""
    return " ".join(text.replace("|", "/").split())
