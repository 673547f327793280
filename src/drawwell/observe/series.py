"""The series that monitoring can read.

One table serves the text formats, the manual and the dashboard.

Names follow Prometheus' conventions: base units, and ``_total`` for counters, which the
renderer adds. Everything is read out of a `BrokerReport`, in its JSON form.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from drawwell.reports import WAIT_BOUNDS_S, Firmware, SourceState
from drawwell.units import parse_allowance

_Part = Mapping[str, Any]
"""A report, or a part of one, as `as_json` gives it."""
_Read = Callable[[_Part], float | None]
_Samples = Callable[[_Part], Iterable["Sample"]]
_TEST: Final = ("source", "test", "unit")

MOST_CONSUMERS: Final = 100
"""More consumers than this have no series of their own: each costs the database five."""


class SeriesKind(StrEnum):
    """The types that a series can have (OpenMetrics 1.0, section 5)."""

    GAUGE = "gauge"
    COUNTER = "counter"
    INFO = "info"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Sample:
    """One value and its labels; `suffix` marks a part of a histogram."""

    value: float
    labels: tuple[tuple[str, str], ...] = ()
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """A family of samples.

    `name` has its unit at the end, without the suffix of its kind. `names` marks what names
    consumers: it is left out if the reader is not known.
    """

    name: str
    kind: SeriesKind
    unit: str
    what: str
    labels: tuple[str, ...]
    read: _Samples
    names: bool = False

    @property
    def full_name(self) -> str:
        """The name of its samples in a query."""
        suffix = {SeriesKind.COUNTER: "_total", SeriesKind.INFO: "_info"}.get(self.kind, "")
        return f"drawwell_{self.name}{suffix}"


def _one(read: _Read) -> _Samples:
    def samples(report: _Part) -> Iterator[Sample]:
        yield Sample(float(read(report) or 0))

    return samples


def _each(parts: str, label: str, name: Callable[[_Part], str], read: _Read) -> _Samples:
    """Read a value of each part, labelled by its name; None is left out."""

    def samples(report: _Part) -> Iterator[Sample]:
        for part in report[parts]:
            value = read(part)
            if value is not None:
                yield Sample(float(value), ((label, name(part)),))

    return samples


def _each_source(read: _Read) -> _Samples:
    return _each("sources", "source", lambda source: str(source["identity"]["name"]), read)


def _each_sink(read: _Read) -> _Samples:
    return _each("sinks", "sink", lambda sink: str(sink["name"]), read)


def _each_guest(read: _Read) -> _Samples:
    return _each("guests", "guest", lambda guest: str(guest["name"]), read)


def _each_consumer(read: _Read) -> _Samples:
    samples = _each("consumers", "consumer", lambda consumer: str(consumer["name"]), read)
    return lambda report: () if report["consumers_left_out"] else samples(report)


def _each_test(read: _Read) -> _Samples:
    def samples(report: _Part) -> Iterator[Sample]:
        for source in report["sources"]:
            for test in source["tests"]:
                names = (source["identity"]["name"], test["name"], test["unit"])
                yield Sample(float(read(test) or 0), tuple(zip(_TEST, names, strict=True)))

    return samples


def margin(test: _Part) -> float:
    """Return how far a test stayed below its cutoff in the last minute.

    1 is far, 0 is a failure. A process of a source may send any cutoff.
    """
    return max(0.0, 1 - float(test["recent_count"] / max(1, test["cutoff_intermittent"])))


def _build(report: _Part) -> Iterator[Sample]:
    yield Sample(1.0, (("broker", report["name"]), ("version", report["version"])))


def _not_ready(report: _Part) -> Iterator[Sample]:
    if not report["ready"]:
        yield Sample(1.0, (("reason", report["not_ready_because"]),))


def _source_info(report: _Part) -> Iterator[Sample]:
    for source in report["sources"]:
        who = source["identity"]
        yield Sample(
            1.0,
            (
                ("source", who["name"]),
                ("driver", who["kind"]),
                ("path", who["path"]),
                ("noise", who["noise"]),
                ("firmware", who["firmware"]),
            ),
        )


def _states(report: _Part) -> Iterator[Sample]:
    for source in report["sources"]:
        for state in SourceState:
            labels = (("source", source["identity"]["name"]), ("state", state))
            yield Sample(float(source["state"] == state), labels)


def _firmware(source: _Part) -> float | None:
    firmware = source["identity"]["firmware"]
    return None if firmware == Firmware.NOT_APPLICABLE else float(firmware == Firmware.VERIFIED)


def _draws(report: _Part) -> Iterator[Sample]:
    for draw_class, count in sorted(report["draws"]["granted"].items()):
        yield Sample(float(count), (("class", draw_class), ("result", "granted")))
    for kind, count in sorted(report["draws"]["refused"].items()):
        yield Sample(float(count), (("class", ""), ("result", kind)))


def _delivered(report: _Part) -> Iterator[Sample]:
    yield Sample(report["ledger"]["delivered_bits"] / 8, (("class", "full"),))
    yield Sample(float(report["ledger"]["drbg_bytes"]), (("class", "drbg"),))


def _waits(report: _Part) -> Iterator[Sample]:
    total = 0
    for bound, count in zip((*map(str, WAIT_BOUNDS_S), "+Inf"), report["draws"]["waits"], strict=True):
        total += count
        yield Sample(float(total), (("le", bound),), "_bucket")
    yield Sample(float(total), (), "_count")
    yield Sample(report["draws"]["waited_s"], (), "_sum")


def _certificates(report: _Part) -> Iterator[Sample]:
    for each in report["certificates"]:
        yield Sample(each["left_s"], (("certificate", each["name"]),))


def _quota(consumer: _Part) -> float | None:
    return parse_allowance(consumer["quota"]).limit_bytes if consumer["quota"] else None


_G, _C = SeriesKind.GAUGE, SeriesKind.COUNTER
_SOURCE: Final = ("source",)

SERIES: Final = (
    Series("build", SeriesKind.INFO, "", "The broker's name and version.", ("broker", "version"), _build),
    Series("ready", _G, "", "1 while draws can be served.", (), _one(lambda r: r["ready"])),
    Series("not_ready", SeriesKind.INFO, "", "Why no draw can be served.", ("reason",), _not_ready),
    Series("uptime_seconds", _G, "seconds", "Since the start.", (), _one(lambda r: r["uptime_s"])),
    Series("sources_wanted", _G, "", "How many sources each byte needs.", (), _one(lambda r: r["min_sources"])),
    Series("sources_healthy", _G, "", "How many sources are healthy.", (), _one(lambda r: r["healthy_sources"])),
    Series(
        "source", SeriesKind.INFO, "", "The driver of a source, its node.",
        ("source", "driver", "path", "noise", "firmware"), _source_info,
    ),
    Series("source_state", _G, "", "1 for the state that a source is in.", ("source", "state"), _states),
    Series(
        "source_simulated", _G, "", "1 for a source that is simulated or replayed.", _SOURCE,
        _each_source(lambda s: s["identity"]["simulated"]),
    ),
    Series(
        "source_firmware_verified", _G, "", "1 if the firmware of a source was verified.", _SOURCE,
        _each_source(_firmware),
    ),
    Series(
        "source_stalled", _G, "", "1 if a source is there and silent.", _SOURCE,
        _each_source(lambda s: s["stalled"]),
    ),
    Series("source_paused", _G, "", "1 if a source is paused.", _SOURCE, _each_source(lambda s: s["paused"])),
    Series(
        "source_health_epoch", _G, "", "How often a source began to be healthy.", _SOURCE,
        _each_source(lambda s: s["health_epoch"]),
    ),
    Series(
        "source_raw_bytes", _C, "bytes", "Bytes that were read from a source.", _SOURCE,
        _each_source(lambda s: s["raw_bytes"]),
    ),
    Series(
        "source_tested_bytes", _C, "bytes", "Bytes that passed the health tests.", _SOURCE,
        _each_source(lambda s: s["tested_bytes"]),
    ),
    Series(
        "source_conditioned_bytes", _C, "bytes", "Bytes of full entropy made of them.", _SOURCE,
        _each_source(lambda s: s["conditioned_bits"] / 8),
    ),
    Series(
        "source_reconnects", _C, "", "How often a source was opened again.", _SOURCE,
        _each_source(lambda s: s["reconnects"]),
    ),
    Series(
        "health_failures", _C, "", "How often a health test failed.", _TEST,
        _each_test(lambda t: t["failures"]),
    ),
    Series(
        "health_margin_ratio", _G, "ratio",
        "How far a test's worst count of the last minute stayed below its cutoff: 1 is far, 0 is a failure.",
        _TEST, _each_test(margin),
    ),
    Series("reservoir_bytes", _G, "bytes", "Full entropy at hand.", (), _one(lambda r: r["reservoir_bytes"])),
    Series(
        "reservoir_capacity_bytes", _G, "bytes", "The size of the reservoir.", (),
        _one(lambda r: r["reservoir_capacity_bytes"]),
    ),
    Series(
        "supply_bytes_per_second", _G, "", "Full entropy that the sources can make.", (),
        _one(lambda r: r["supply_bytes_per_s"]),
    ),
    Series("draws", _C, "", "Draws by class, and refused ones by error.", ("class", "result"), _draws),
    Series("delivered_bytes", _C, "bytes", "Bytes that were granted.", ("class",), _delivered),
    Series(
        "draw_wait_seconds", SeriesKind.HISTOGRAM, "seconds", "How long granted draws waited in the queue.",
        (), _waits,
    ),
    Series(
        "starved_seconds", _C, "seconds", "Time during which a draw waited for the reservoir.", (),
        _one(lambda r: r["draws"]["starved_s"]),
    ),
    Series(
        "ledger_balanced", _G, "", "1 while every byte is accounted for.", (),
        _one(lambda r: r["ledger"]["balanced"]),
    ),
    Series("sessions", _G, "", "Open sessions.", (), _one(lambda r: r["sessions"])),
    Series(
        "handshakes_waiting", _G, "", "TLS handshakes that wait for their turn.", (),
        _one(lambda r: r["handshakes_waiting"]),
    ),
    Series(
        "certificate_expiry_seconds", _G, "seconds", "How long a certificate is still valid.",
        ("certificate",), _certificates,
    ),
    Series(
        "clock_jumped", _G, "", "1 if the clock jumped by more than a day.", (),
        _one(lambda r: r["clock_jumped"]),
    ),
    Series(
        "audit_trouble", _G, "", "1 if the audit log cannot be written or its chain is broken.", (),
        _one(lambda r: r["audit_trouble"]),
    ),
    Series(
        "sink_delivered_bytes", _C, "bytes", "Bytes that a sink was given.", ("sink",),
        _each_sink(lambda s: s["delivered_bytes"]),
    ),
    Series(
        "sink_credited_bits", _C, "bits", "Bits that were credited to the kernel.", ("sink",),
        _each_sink(lambda s: s["credited_bits"]),
    ),
    Series("sink_reseeds", _C, "", "How often a kernel was reseeded.", ("sink",), _each_sink(lambda s: s["reseeds"])),
    Series(
        "guest_connected", _G, "", "Connections of a guest.", ("guest",),
        _each_guest(lambda g: g["connected"]), names=True,
    ),
    Series(
        "guest_owed_bytes", _G, "bytes", "Bytes that a guest asked for and was not sent.", ("guest",),
        _each_guest(lambda g: g["owed_bytes"]), names=True,
    ),
    Series(
        "guest_consumed_bytes", _C, "bytes", "Bytes that a guest has taken.", ("guest",),
        _each_guest(lambda g: g["consumed_bytes"]), names=True,
    ),
    Series(
        "guest_waiting", _G, "", "1 for a guest that gets nothing now, or cannot connect.", ("guest",),
        _each_guest(lambda g: bool(g["waits"] or g["fault"])), names=True,
    ),
    Series(
        "consumers_active", _G, "", "Consumers of the configuration, guests, and others that drew.", (),
        _one(lambda r: r["consumers_active"]),
    ),
    Series(
        "consumers_invited", _G, "", "Consumers that were invited and not revoked.", (),
        _one(lambda r: r["consumers_invited"]),
    ),
    Series(
        "consumer_draws", _C, "", "Draws of a consumer.", ("consumer",),
        _each_consumer(lambda c: c["draws"]), names=True,
    ),
    Series(
        "consumer_refused", _C, "", "Draws of a consumer that were refused.", ("consumer",),
        _each_consumer(lambda c: c["refused"]), names=True,
    ),
    Series(
        "consumer_bytes", _C, "bytes", "Bytes that a consumer was granted.", ("consumer",),
        _each_consumer(lambda c: c["full_bytes"] + c["drbg_bytes"]), names=True,
    ),
    Series(
        "consumer_quota_bytes", _G, "bytes", "Quota of a consumer for each period.", ("consumer",),
        _each_consumer(_quota), names=True,
    ),
    Series(
        "consumer_quota_left_bytes", _G, "bytes", "Quota that a consumer has left.", ("consumer",),
        _each_consumer(lambda c: c["quota_left_bytes"]), names=True,
    ),
)  # fmt: skip
