"""The series for monitoring.

One table serves the text formats, the manual and the dashboard.

Names follow Prometheus' conventions: they have base units, and the renderer adds ``_total`` to
those of counters. All values are read from a `BrokerReport` in its JSON form.
"""

from collections.abc import Iterator
from typing import Final

from drawwell.observe.family import Part, Read, Sample, Samples, Series, SeriesKind, each, one
from drawwell.observe.fleet_series import FLEET_SERIES
from drawwell.reports import WAIT_BOUNDS_S, Firmware, SourceState
from drawwell.units import parse_allowance

_TEST: Final = ("source", "test", "unit")

MOST_CONSUMERS: Final = 100
"""The most consumers that have series, because each adds five series to the database."""


def _each_source(read: Read) -> Samples:
    return each("sources", "source", lambda source: str(source["identity"]["name"]), read)


def _each_sink(read: Read) -> Samples:
    return each("sinks", "sink", lambda sink: str(sink["name"]), read)


def _each_guest(read: Read) -> Samples:
    return each("guests", "guest", lambda guest: str(guest["name"]), read)


def _each_consumer(read: Read) -> Samples:
    samples = each("consumers", "consumer", lambda consumer: str(consumer["name"]), read)
    return lambda report: () if report["consumers_left_out"] else samples(report)


def _each_test(read: Read) -> Samples:
    def samples(report: Part) -> Iterator[Sample]:
        for source in report["sources"]:
            for test in source["tests"]:
                names = (source["identity"]["name"], test["name"], test["unit"])
                yield Sample(float(read(test) or 0), tuple(zip(_TEST, names, strict=True)))

    return samples


def margin(test: Part) -> float:
    """Return how far below its cutoff a test stayed in the last minute.

    1 is far below, 0 is a failure. A source in another process might send any cutoff.
    """
    return max(0.0, 1 - float(test["recent_count"] / max(1, test["cutoff_intermittent"])))


def _build(report: Part) -> Iterator[Sample]:
    yield Sample(1.0, (("broker", report["name"]), ("version", report["version"])))


def _not_ready(report: Part) -> Iterator[Sample]:
    if not report["ready"]:
        yield Sample(1.0, (("reason", report["not_ready_because"]),))


def _source_info(report: Part) -> Iterator[Sample]:
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


def _states(report: Part) -> Iterator[Sample]:
    for source in report["sources"]:
        for state in SourceState:
            labels = (("source", source["identity"]["name"]), ("state", state))
            yield Sample(float(source["state"] == state), labels)


def _firmware(source: Part) -> float | None:
    firmware = source["identity"]["firmware"]
    return None if firmware == Firmware.NOT_APPLICABLE else float(firmware == Firmware.VERIFIED)


def _draws(report: Part) -> Iterator[Sample]:
    for draw_class, count in sorted(report["draws"]["granted"].items()):
        yield Sample(float(count), (("class", draw_class), ("result", "granted")))
    for draw_class, refused in sorted(report["draws"]["refused_by_class"].items()):
        for kind, count in sorted({"QuotaExceeded": 0, **refused}.items()):  # for increase() in an alert
            yield Sample(float(count), (("class", draw_class), ("result", kind)))


def _delivered(report: Part) -> Iterator[Sample]:
    yield Sample(report["ledger"]["delivered_bits"] / 8, (("class", "full"),))
    yield Sample(float(report["ledger"]["drbg_bytes"]), (("class", "drbg"),))


def _waits(report: Part) -> Iterator[Sample]:
    total = 0
    for bound, count in zip((*map(str, WAIT_BOUNDS_S), "+Inf"), report["draws"]["waits"], strict=True):
        total += count
        yield Sample(float(total), (("le", bound),), "_bucket")
    yield Sample(float(total), (), "_count")
    yield Sample(report["draws"]["waited_s"], (), "_sum")


def _certificates(report: Part) -> Iterator[Sample]:
    for certificate in report["certificates"]:
        yield Sample(certificate["left_s"], (("certificate", certificate["name"]),))


def _quota(consumer: Part) -> float | None:
    return parse_allowance(consumer["quota"]).limit_bytes if consumer["quota"] else None


_G, _C = SeriesKind.GAUGE, SeriesKind.COUNTER
_SOURCE: Final = ("source",)

SERIES: Final = (
    Series("build", SeriesKind.INFO, "", "The broker's name and version.", ("broker", "version"), _build),
    Series("ready", _G, "", "1 while draws can be served.", (), one(lambda r: r["ready"])),
    Series("not_ready", SeriesKind.INFO, "", "Why no draw can be served.", ("reason",), _not_ready),
    Series("uptime_seconds", _G, "seconds", "Time since the start.", (), one(lambda r: r["uptime_s"])),
    Series("sources_wanted", _G, "", "Sources that each byte requires.", (), one(lambda r: r["min_sources"])),
    Series("sources_healthy", _G, "", "Number of healthy sources.", (), one(lambda r: r["healthy_sources"])),
    Series(
        "source", SeriesKind.INFO, "", "A source's driver, device node and so on.",
        ("source", "driver", "path", "noise", "firmware"), _source_info,
    ),
    Series("source_state", _G, "", "1 for the current state of a source.", ("source", "state"), _states),
    Series(
        "source_simulated", _G, "", "1 for a source that is simulated or replayed.", _SOURCE,
        _each_source(lambda s: s["identity"]["simulated"]),
    ),
    Series(
        "source_firmware_verified", _G, "", "1 if the firmware of a source was verified.", _SOURCE,
        _each_source(_firmware),
    ),
    Series(
        "source_stalled", _G, "", "1 if a source is connected but silent.", _SOURCE,
        _each_source(lambda s: s["stalled"]),
    ),
    Series("source_paused", _G, "", "1 if a source is paused.", _SOURCE, _each_source(lambda s: s["paused"])),
    Series(
        "source_health_epoch", _G, "", "How many times a source has passed its start-up tests.", _SOURCE,
        _each_source(lambda s: s["health_epoch"]),
    ),
    Series(
        "source_raw_bytes", _C, "bytes", "Bytes read from a source.", _SOURCE,
        _each_source(lambda s: s["raw_bytes"]),
    ),
    Series(
        "source_tested_bytes", _C, "bytes", "Bytes of a source that passed the health tests.", _SOURCE,
        _each_source(lambda s: s["tested_bytes"]),
    ),
    Series(
        "source_conditioned_bytes", _C, "bytes", "Bytes of full entropy from a source.", _SOURCE,
        _each_source(lambda s: s["conditioned_bits"] / 8),
    ),
    Series(
        "source_reconnects", _C, "", "How many times a source was reopened.", _SOURCE,
        _each_source(lambda s: s["reconnects"]),
    ),
    Series(
        "health_failures", _C, "", "How many times a health test failed.", _TEST,
        _each_test(lambda t: t["failures"]),
    ),
    Series(
        "health_margin_ratio", _G, "ratio",
        "How far a test's worst count of the last minute was below its cutoff: 1 is far, 0 is a failure.",
        _TEST, _each_test(margin),
    ),
    Series(
        "source_min_entropy_bits", _G, "bits",
        "Estimate of the min-entropy of a sample, from the most common value; none before the first window ends.",
        _SOURCE, _each_source(lambda s: s["drift"]["min_entropy"] or None),
    ),
    Series(
        "source_drift_alarms", _C, "", "Windows in which a value was more common than min_entropy allows.",
        _SOURCE, _each_source(lambda s: s["drift"]["alarms"]),
    ),
    Series("reservoir_bytes", _G, "bytes", "Full entropy stored.", (), one(lambda r: r["reservoir_bytes"])),
    Series(
        "reservoir_capacity_bytes", _G, "bytes", "The size of the reservoir.", (),
        one(lambda r: r["reservoir_capacity_bytes"]),
    ),
    Series(
        "supply_bytes_per_second", _G, "", "Full entropy that the sources can supply.", (),
        one(lambda r: r["supply_bytes_per_s"]),
    ),
    Series("draws", _C, "", "Draws by class: granted, or refused with this error.", ("class", "result"), _draws),
    Series(
        "receipts_lost", _C, "", "Draws that were charged and lost because the receipt was not signed.", (),
        one(lambda r: r["draws"]["receipts_lost"]),
    ),
    Series("delivered_bytes", _C, "bytes", "Bytes granted.", ("class",), _delivered),
    Series(
        "draw_wait_seconds", SeriesKind.HISTOGRAM, "seconds", "How long granted draws waited in the queue.",
        (), _waits,
    ),
    Series(
        "starved_seconds", _C, "seconds", "Total time during which a draw waited for the reservoir.", (),
        one(lambda r: r["draws"]["starved_s"]),
    ),
    Series(
        "ledger_balanced", _G, "", "1 while every byte is accounted for.", (),
        one(lambda r: r["ledger"]["balanced"]),
    ),
    Series("sessions", _G, "", "Open sessions.", (), one(lambda r: r["sessions"])),
    Series(
        "handshakes_waiting", _G, "", "TLS handshakes in the queue.", (),
        one(lambda r: r["handshakes_waiting"]),
    ),
    Series(
        "certificate_expiry_seconds", _G, "seconds", "Time until a certificate expires.",
        ("certificate",), _certificates,
    ),
    Series(
        "clock_jumped", _G, "", "1 if the clock jumped by more than a day.", (),
        one(lambda r: r["clock_jumped"]),
    ),
    Series(
        "audit_trouble", _G, "", "1 if the audit log cannot be written, or its chain is broken.", (),
        one(lambda r: r["audit_trouble"]),
    ),
    Series(
        "state_trouble", _G, "", "1 if the state cannot be written: draws under a quota are refused.", (),
        one(lambda r: r["state_trouble"]),
    ),
    Series(
        "signer_away", _G, "", "1 if the signer does not answer: nothing can be signed.", (),
        one(lambda r: r["signer_away"]),
    ),
    Series(
        "sink_delivered_bytes", _C, "bytes", "Bytes delivered to a sink.", ("sink",),
        _each_sink(lambda s: s["delivered_bytes"]),
    ),
    Series(
        "sink_credited_bits", _C, "bits", "Bits credited to the kernel.", ("sink",),
        _each_sink(lambda s: s["credited_bits"]),
    ),
    Series("sink_reseeds", _C, "", "Reseeds of a kernel.", ("sink",), _each_sink(lambda s: s["reseeds"])),
    Series(
        "guest_connected", _G, "", "Number of a guest's connections.", ("guest",),
        _each_guest(lambda g: g["connected"]), names=True,
    ),
    Series(
        "guest_owed_bytes", _G, "bytes", "Bytes that a guest has requested and has not yet received.", ("guest",),
        _each_guest(lambda g: g["owed_bytes"]), names=True,
    ),
    Series(
        "guest_consumed_bytes", _C, "bytes", "Bytes that a guest has read.", ("guest",),
        _each_guest(lambda g: g["consumed_bytes"]), names=True,
    ),
    Series(
        "guest_waiting", _G, "", "1 for a guest that receives no bytes or cannot connect.", ("guest",),
        _each_guest(lambda g: bool(g["waits"] or g["fault"])), names=True,
    ),
    Series(
        "consumers_active", _G, "", "Configured consumers, guests, and others that drew.", (),
        one(lambda r: r["consumers_active"]),
    ),
    Series(
        "consumers_invited", _G, "", "Invited consumers that are not revoked.", (),
        one(lambda r: r["consumers_invited"]),
    ),
    Series(
        "consumer_draws", _C, "", "Draws by a consumer.", ("consumer",),
        _each_consumer(lambda c: c["draws"]), names=True,
    ),
    Series(
        "consumer_refused", _C, "", "Refused draws by a consumer.", ("consumer",),
        _each_consumer(lambda c: c["refused"]), names=True,
    ),
    Series(
        "consumer_bytes", _C, "bytes", "Bytes granted to a consumer.", ("consumer",),
        _each_consumer(lambda c: c["full_bytes"] + c["drbg_bytes"]), names=True,
    ),
    Series(
        "consumer_quota_bytes", _G, "bytes", "Quota of a consumer per period.", ("consumer",),
        _each_consumer(_quota), names=True,
    ),
    Series(
        "consumer_quota_left_bytes", _G, "bytes", "Quota that a consumer has left.", ("consumer",),
        _each_consumer(lambda c: c["quota_left_bytes"]), names=True,
    ),
    *FLEET_SERIES,
)  # fmt: skip
