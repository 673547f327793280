"""The series in both formats, read by parsers of prometheus_client."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_prometheus

from drawwell.observe.link_series import LINK_SERIES
from drawwell.observe.openmetrics import render
from drawwell.observe.series import SERIES
from drawwell.reports import (
    BrokerReport,
    CertificateReport,
    DrawsReport,
    DriftReport,
    LinkReport,
    UpstreamReport,
    as_json,
)
from support.reports import broker_report

FORMATS = [(True, read_openmetrics), (False, read_prometheus)]
Reader = Callable[[str], Iterable[Any]]


LINK = LinkReport(
    "1.0", 60.0, ready=False, not_ready_because="tls://well:55000: no answer", draws=3, drawn_bytes=96,
    upstreams=(UpstreamReport("tls://well:55000", ready=False, not_ready_because="no answer", certificate_left_s=9.0),),
)  # fmt: skip


def values(
    report: BrokerReport, reader: Reader, *, openmetrics: bool, names: bool = True
) -> dict[Any, float]:
    text = render(as_json(report), names=names, openmetrics=openmetrics)
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in reader(text)
        for sample in family.samples
    }


@pytest.mark.parametrize(("openmetrics", "reader"), FORMATS)
def test_every_series_is_read_back(openmetrics: bool, reader: Reader) -> None:
    """Both parsers find every series of the table under its name."""
    text = render(as_json(broker_report()), names=True, openmetrics=openmetrics)
    found = {family.name for family in reader(text)}
    wanted = {
        f"drawwell_{each.name}" if openmetrics or each.full_name.endswith("_total") else each.full_name
        for each in SERIES
    }
    assert wanted == found


@pytest.mark.parametrize(("openmetrics", "reader"), FORMATS)
def test_a_link_has_series_of_its_own(openmetrics: bool, reader: Reader) -> None:
    """A link has series for the brokers behind it, and none of a broker."""
    text = render(as_json(LINK), names=False, openmetrics=openmetrics)
    found = {sample.name: sample.value for family in reader(text) for sample in family.samples}
    assert set(found) == {each.full_name for each in LINK_SERIES}
    assert (found["drawwell_ready"], found["drawwell_link_ready"], found["drawwell_link_draws_total"]) == (
        0,
        0,
        3,
    )
    assert found["drawwell_link_certificate_expiry_seconds"] == 9


@pytest.mark.parametrize(("openmetrics", "reader"), FORMATS)
def test_values_and_labels_come_through(openmetrics: bool, reader: Reader) -> None:
    """Counters, gauges, infos and histograms have the report's values."""
    report = replace(
        broker_report(),
        draws=DrawsReport(
            {"full": 7}, {"Starved": 2}, (5, 0, 1, 0, 0, 0, 1), 75.5, 80.0, {"full": {"Starved": 2}}
        ),
        certificates=(CertificateReport("server", 3600.0),),
    )
    found = values(report, reader, openmetrics=openmetrics)
    assert found["drawwell_draws_total", ("class", "full"), ("result", "granted")] == 7
    assert found["drawwell_draws_total", ("class", "full"), ("result", "Starved")] == 2
    assert found["drawwell_draws_total", ("class", "full"), ("result", "QuotaExceeded")] == 0
    assert found["drawwell_certificate_expiry_seconds", ("certificate", "server")] == 3600
    assert found["drawwell_draw_wait_seconds_bucket", ("le", "0.1")] == 6
    assert found["drawwell_draw_wait_seconds_bucket", ("le", "+Inf")] == 7
    assert found[("drawwell_draw_wait_seconds_count",)] == 7
    assert found[("drawwell_draw_wait_seconds_sum",)] == 75.5
    assert found["drawwell_build_info", ("broker", report.name), ("version", report.version)] == 1


def test_the_estimate_is_there_once_it_is_known() -> None:
    """Before the first window ends, a source has no estimate."""
    report = broker_report()
    source = report.sources[0]
    name = "drawwell_source_min_entropy_bits", ("source", source.identity.name)

    def found(drift: DriftReport) -> Mapping[Any, float]:
        changed = replace(report, sources=(replace(source, drift=drift),))
        return values(changed, read_prometheus, openmetrics=False)

    assert name not in found(DriftReport())
    assert found(DriftReport(5.5, 2, raised=True))[name] == 5.5


@pytest.mark.parametrize(("cutoff", "ratio"), [(11, 1 - 4 / 11), (0, 0.0)])
def test_the_margin_is_of_the_last_minute(cutoff: int, ratio: float) -> None:
    """The worst count of the last minute is used; a cutoff of zero is reached."""
    report = broker_report()
    source = report.sources[0]
    tests = (replace(source.tests[0], cutoff_intermittent=cutoff),)
    found = values(
        replace(report, sources=(replace(source, tests=tests),)), read_prometheus, openmetrics=False
    )
    (name,) = (each for each in found if each[0] == "drawwell_health_margin_ratio")
    assert found[name] == pytest.approx(ratio)


@pytest.mark.parametrize(("openmetrics", "reader"), FORMATS)
def test_no_consumer_is_named_without_the_right(openmetrics: bool, reader: Reader) -> None:
    """Without permission to see names, the text contains none."""
    report = broker_report()
    assert report.consumers
    text = render(as_json(report), names=False, openmetrics=openmetrics)
    assert list(reader(text))
    assert not re.search("|".join(each.name for each in report.consumers), text)


def test_a_crowd_of_consumers_has_no_series_of_its_own() -> None:
    """If some consumers are left out, none is named: series stay stable."""
    for left_out in (0, 1):
        report = replace(broker_report(), consumers_left_out=left_out, consumers_active=7)
        found = values(report, read_prometheus, openmetrics=False)
        assert found[("drawwell_consumers_active",)] == 7
        assert (("drawwell_consumer_draws_total", ("consumer", "web01")) in found) is (left_out == 0)


@pytest.mark.parametrize(("openmetrics", "reader"), FORMATS)
@pytest.mark.parametrize("odd", ['a"b', "a\\nb", "a\nb", "ü \u2028", "\udc80", "a{b}=\\"])
def test_a_label_is_never_more_than_a_label(odd: str, openmetrics: bool, reader: Reader) -> None:
    """Quotes, line endings and non-text bytes stay within one label value."""
    report = replace(broker_report(), ready=False, not_ready_because=odd)
    found: Mapping[Any, float] = values(report, reader, openmetrics=openmetrics)
    shown = odd.encode(errors="replace").decode()
    assert found["drawwell_not_ready_info", ("reason", shown)] == 1
