"""The series of a fleet; a broker without a fleet has none."""

from collections.abc import Iterator
from typing import Final

from drawwell.observe.family import Part, Read, Sample, Samples, Series, SeriesKind, each
from drawwell.reports import SourceState

_G: Final = SeriesKind.GAUGE
_BROKER: Final = ("broker",)


def _fleet(read: Read) -> Samples:
    def samples(report: Part) -> Iterator[Sample]:
        value = read(report["fleet"]) if report.get("fleet") else None
        if value is not None:
            yield Sample(float(value))

    return samples


def _each_broker(read: Read) -> Samples:
    brokers = each("brokers", "broker", lambda broker: str(broker["name"]), read)
    return lambda report: brokers(report["fleet"]) if report.get("fleet") else ()


def _broker_versions(report: Part) -> Iterator[Sample]:
    for broker in report["fleet"]["brokers"] if report.get("fleet") else ():
        yield Sample(1.0, (("broker", broker["name"]), ("version", broker["version"])))


def _healthy(broker: Part) -> float:
    return float(sum(source["state"] == SourceState.HEALTHY for source in broker["sources"]))


FLEET_SERIES: Final = (
    Series(
        "fleet_store_up", _G, "", "1 while the fleet's store answers.", (), _fleet(lambda f: not f["trouble"]),
    ),
    Series(
        "fleet_store_away_seconds", _G, "seconds", "Time since the fleet's store last answered.", (),
        _fleet(lambda f: f["away_s"]),
    ),
    Series(
        "fleet_grace_seconds", _G, "seconds", "How long leases are served without the store.", (),
        _fleet(lambda f: f["grace_s"]),
    ),
    Series(
        "fleet_store_answer_seconds", _G, "seconds", "Response time of the store's last answer.", (),
        _fleet(lambda f: f["answer_s"]),
    ),
    Series(
        "fleet_store_synchronous", _G, "", "1 if the store waits for a standby.", (),
        _fleet(lambda f: f["replication"] == "synchronous"),
    ),
    Series(
        "fleet_store_standbys", _G, "", "Standbys connected to the store.", (),
        _fleet(lambda f: f["standbys"]),
    ),
    Series(
        "fleet_standby_lag_seconds", _G, "seconds", "How far the standby lags behind, if known.", (),
        _fleet(lambda f: f["standby_lag_s"]),
    ),
    Series(
        "fleet_broker", SeriesKind.INFO, "", "A broker in the fleet and its version.", ("broker", "version"),
        _broker_versions,
    ),
    Series(
        "fleet_broker_seen_seconds", _G, "seconds", "Time since a broker last wrote to the store.", _BROKER,
        _each_broker(lambda b: b["seen_s"]),
    ),
    Series(
        "fleet_broker_ready", _G, "", "1 for a broker that could serve draws at its last report.", _BROKER,
        _each_broker(lambda b: b["ready"]),
    ),
    Series(
        "fleet_broker_sources_healthy", _G, "", "Healthy sources of a broker.", _BROKER, _each_broker(_healthy),
    ),
    Series(
        "fleet_broker_leased_bytes", _G, "bytes", "Bytes of quota that a broker has leased but not spent.",
        _BROKER, _each_broker(lambda b: b["leased_bytes"]),
    ),
    Series(
        "fleet_broker_unread_changes", _G, "", "Changes in the store that a broker has not read.", _BROKER,
        _each_broker(lambda b: b["unread_changes"]),
    ),
)  # fmt: skip
