"""The series in text form: OpenMetrics 1.0, and Prometheus' format 0.0.4."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from drawwell.observe.family import Sample, Series, SeriesKind
from drawwell.observe.link_series import series_of

OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROMETHEUS: Final = "text/plain; version=0.0.4; charset=utf-8"
_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\n": "\\n", '"': '\\"'})


def render(report: Mapping[str, Any], *, names: bool, openmetrics: bool) -> str:
    """Format all series of a report.

    Args:
        report: A `BrokerReport` or a `LinkReport` in its JSON form.
        names: Whether to include consumers' names.
        openmetrics: Selects OpenMetrics; False selects Prometheus' own format.
    """
    lines = [
        line
        for series in series_of(report)
        if names or not series.names
        for line in _family(series, report, openmetrics=openmetrics)
    ]
    return "\n".join([*lines, "# EOF"] if openmetrics else lines) + "\n"


def _family(series: Series, report: Mapping[str, Any], *, openmetrics: bool) -> Iterator[str]:
    family = f"drawwell_{series.name}" if openmetrics else series.full_name
    kind = "gauge" if series.kind is SeriesKind.INFO and not openmetrics else series.kind
    yield f"# TYPE {family} {kind}"
    if openmetrics and series.unit:
        yield f"# UNIT {family} {series.unit}"
    yield f"# HELP {family} {series.what}"
    for sample in series.read(report):
        yield f"{series.full_name}{sample.suffix}{_labels(sample)} {sample.value:.17g}"


def _labels(sample: Sample) -> str:
    if not sample.labels:
        return ""
    return (
        "{" + ",".join(f'{name}="{_plain(value).translate(_ESCAPES)}"' for name, value in sample.labels) + "}"
    )


def _plain(text: str) -> str:
    """Replace characters that UTF-8 cannot encode."""
    return text.encode(errors="replace").decode()
