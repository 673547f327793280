"""Formats JSON reports as text."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from drawwell.cli.style import PLAIN, Style
from drawwell.entropy.cutoffs import STARTUP_SAMPLES
from drawwell.observe.fleet import store_state
from drawwell.reports import Firmware, SourceState
from drawwell.units import format_duration, format_size

Json = Mapping[str, Any]


def broker_text(report: Json, style: Style = PLAIN) -> str:
    """Return the full status of a broker."""
    ready = _readiness(report, style)
    lines = [
        f"broker {report['name']}: {ready}, up {format_duration(report['uptime_s'])}",
        supply_line(report),
        ledger_line(report["ledger"]),
        *_fleet_line(report),
        *(f"door {door}" for door in report["doors"]),
        *(f"note: {note}" for note in report["notes"]),
    ]
    parts = [*_wrapped(lines, style), "", sources_table(report["sources"], style)]
    if report["consumers"]:
        parts += ["", consumers_table(report["consumers"], style)]
    if report.get("consumers_left_out"):
        busiest = (
            f"these are the busiest of {report['consumers_active']} active consumers; for all "
            f"{report['consumers_invited']} invited consumers, see 'drawwell consumer list'"
        )
        parts += _wrapped([busiest], style)
    parts += _wrapped(map(sink_line, report["sinks"]), style)
    return "\n".join(parts)


_INDENT = "  "


def _wrapped(lines: Iterable[str], style: Style) -> list[str]:
    return [style.wrap(line, _INDENT) for line in lines]


def _fleet_line(report: Json) -> Iterator[str]:
    if fleet := report.get("fleet"):
        count = len(fleet["brokers"])
        yield f"fleet {fleet['name']} of {count}: {store_state(fleet)}; see 'drawwell fleet status'"


def _readiness(report: Json, style: Style) -> str:
    if report["ready"]:
        return style.state("ready")
    return f"{style.state('NOT READY')}: {report['not_ready_because']}"


def link_text(report: Json, style: Style = PLAIN) -> str:
    """Return the state of the links to remote brokers."""
    ready = style.state("ready" if report["ready"] else "NOT READY")
    drawn = f"{format_size(report['drawn_bytes'])} in {report['draws']} draws"
    parts = [f"link: {ready}, up {format_duration(report['uptime_s'])}, {drawn}"]
    for each in report["upstreams"]:
        text = f"upstream {each['url']}: {each['not_ready_because'] or style.state('ready')}"
        left = each["certificate_left_s"]
        if left is not None:
            text += f", certificate ends in {format_duration(left)}" if left > 0 else ", CERTIFICATE EXPIRED"
        parts.append(text)
    return "\n".join(_wrapped([*parts, *(f"note: {note}" for note in report["notes"])], style))


def feed_text(feed: Json, now: float) -> str:
    """Return the deliveries of a feeder that runs in its own process."""
    error = f"; {feed['last_error']}" if feed["last_error"] else ""
    ago = format_duration(max(0.0, now - feed["at"]))
    return f"{sink_line(feed['sink'])}{error}, from {feed['upstream']}, {ago} ago"


def own_text(report: Json, style: Style = PLAIN) -> str:
    """Return the status for a consumer: readiness and its own account."""
    ready = _readiness(report, style)
    name = style.wrap(f"broker {report['name']}: {ready}", _INDENT)
    return f"{name}\n\n{consumers_table(report['consumers'], style)}"


def supply_line(report: Json) -> str:
    """Return the reservoir's level and supply on one line."""
    held, size = format_size(report["reservoir_bytes"]), format_size(report["reservoir_capacity_bytes"])
    return f"reservoir {held} of {size}, supply {format_size(report['supply_bytes_per_s'])}/s full entropy"


def ledger_line(ledger: Json) -> str:
    """Return the ledger on one line."""
    state = "balanced" if ledger["balanced"] else "NOT BALANCED: this is a bug, please report it"
    return (
        f"ledger {state}: assessed {_bytes(ledger['assessed_bits'])}, conditioned "
        f"{_bytes(ledger['conditioned_bits'])}, delivered {_bytes(ledger['delivered_bits'])}"
    )


def _bytes(bits: int) -> str:
    return format_size(bits // 8)


def state_word(source: Json) -> str:
    """Return a source's state as a short text."""
    return "paused" if source["paused"] else str(source["state"])


def startup_text(source: Json) -> str:
    """Return the progress of a source's start-up tests, or ""."""
    if source["state"] != SourceState.STARTING or "startup_bytes" not in source:
        return ""
    text = f"{source['startup_bytes']:,} of {STARTUP_SAMPLES:,} start-up samples"
    left = source["startup_left_s"]
    return f"{text}, about {format_duration(math.ceil(left))} left at this rate" if left else text


def drift_text(source: Json) -> str:
    """Return a warning if a source's most common value is too frequent."""
    if not source.get("drift", {}).get("raised"):
        return ""
    return "the most common value occurs more often than min_entropy allows"


def sources_table(sources: Sequence[Json], style: Style = PLAIN) -> str:
    """Return a table of the sources, followed by their last errors."""
    rows = [("SOURCE", "STATE", "RAW", "TESTED", "MIN-ENTROPY", "CONDITIONED", "FAILURES", "FIRMWARE")]
    rows += [
        (
            source["identity"]["name"] + (" (simulated)" if source["identity"]["simulated"] else ""),
            state_word(source),
            format_size(source["raw_bytes"]),
            format_size(source["tested_bytes"]),
            f"{source['assessed_bits'] / max(1, source['tested_bytes']):.3g} bits/byte",
            _bytes(source["conditioned_bits"]),
            str(source["health_failures"]),
            _FIRMWARE[source["identity"]["firmware"]],
        )
        for source in sources
    ]
    errors = [
        style.wrap(f"{source['identity']['name']}: {text}", _INDENT)
        for source in sources
        for text in (source["last_error"], startup_text(source), drift_text(source))
        if text
    ]
    shown = style.table(rows, drop=("TESTED", "CONDITIONED", "FAILURES", "RAW", "MIN-ENTROPY"))
    return "\n".join([shown, *errors])


_FIRMWARE = {
    Firmware.VERIFIED: "verified",
    Firmware.NOT_VERIFIED: "NOT VERIFIED",
    Firmware.COULD_NOT_CHECK: "not checked",
    Firmware.NOT_APPLICABLE: "none",
}
"""Short texts for the column; ``source verify`` and JSON show the details."""


def consumers_table(consumers: Sequence[Json], style: Style = PLAIN) -> str:
    """Return a table of the consumers."""
    rows = [("CONSUMER", "DRAWS", "FULL", "DRBG", "REFUSED", "RATE", "QUOTA", "LEFT", "CLASS")]
    rows += [
        (
            consumer["name"],
            str(consumer["draws"]),
            format_size(consumer["full_bytes"]),
            format_size(consumer["drbg_bytes"]),
            str(consumer["refused"]),
            consumer["rate"] or "-",
            consumer["quota"] or "-",
            "-" if consumer["quota_left_bytes"] is None else format_size(consumer["quota_left_bytes"]),
            consumer["draw_class"] + (f", stream {consumer['stream']}" if consumer["stream"] else ""),
        )
        for consumer in consumers
    ]
    return style.table(rows, drop=("DRBG", "REFUSED", "CLASS", "DRAWS", "RATE"))


def sink_line(sink: Json) -> str:
    """Return the deliveries to a sink on one line."""
    error = f"; {sink['last_error']}" if sink["last_error"] else ""
    return (
        f"sink {sink['name']}: {format_size(sink['delivered_bytes'])} in {sink['deliveries']} deliveries, "
        f"{sink['credited_bits']} bits credited, {sink['reseeds']} reseeds{error}"
    )


def tests_table(tests: Sequence[Json], style: Style) -> str:
    """Return a table of the health tests with cutoffs and worst counts."""
    rows = [("TEST", "H", "WINDOW", "AT 2^-30", "AT 2^-60", "WORST", "FIRED")]
    rows += [
        (
            f"{test['name']} ({test['unit']})",
            f"{test['min_entropy']:g}",
            str(test["window"] or "-"),
            str(test["cutoff_intermittent"]),
            str(test["cutoff_permanent"]),
            str(test["worst_count"]),
            str(test["failures"]),
        )
        for test in tests
    ]
    return style.table(rows, drop=("WINDOW", "H", "AT 2^-60"))


def identity_text(identity: Json, style: Style = PLAIN) -> str:
    """Return the facts about a source, one per line."""
    facts = [
        ("source", identity["name"] + (" (simulated)" if identity["simulated"] else "")),
        ("kind", identity["kind"]),
        ("node", identity["path"]),
        ("stable name", identity["stable_name"]),
        ("hardware id", identity["hardware_id"]),
        ("tested", identity["noise"]),
        ("firmware", identity["firmware"]),
        ("", identity["firmware_detail"]),
    ]
    return "\n".join(style.wrap(f"{name:<12} {value}", " " * 13) for name, value in facts if value)
