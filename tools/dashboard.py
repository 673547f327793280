"""Write the dashboard for Grafana out of the table of series.

With --check nothing is written, and the exit code is 1 if the file is out of date.
It was never opened in Grafana, which cannot be had where drawwell is made: only its
queries are tried.
"""

import json
import sys
from pathlib import Path
from typing import Any, Final

from drawwell.observe.series import SERIES, Series, SeriesKind

FILE: Final = Path(__file__).resolve().parent.parent / "packaging/grafana/drawwell.json"
ROWS: Final = (
    ("Is it well", ("ready", "not_ready", "sources_", "ledger", "clock", "audit", "build", "uptime")),
    ("Sources", ("source_", "health")),
    ("Supply and draws", ("reservoir", "supply", "draw", "delivered", "starved")),
    ("Sessions and certificates", ("sessions", "handshakes", "certificate")),
    ("Kernel and other sinks", ("sink",)),
    ("Guests", ("guest",)),
    ("Consumers", ("consumer",)),
)
WIDTH: Final = 8
HEIGHT: Final = 7


def query(series: Series) -> str:
    """Return the query: rates of counters, the 99th percentile of times."""
    name = f'{series.full_name}{{job="$job",instance=~"$instance"}}'
    if series.kind is SeriesKind.COUNTER:
        return f"rate({name}[5m])"
    if series.kind is SeriesKind.HISTOGRAM:
        bucket = name.replace(series.full_name, f"{series.full_name}_bucket")
        return f"histogram_quantile(0.99, sum by (le, instance) (rate({bucket}[5m])))"
    return name


def dashboard() -> dict[str, Any]:
    """Return the dashboard, a panel for each series, in rows by their subject."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, subjects in ROWS:
        chosen = [each for each in SERIES if each.full_name.removeprefix("drawwell_").startswith(subjects)]
        panels.append({"type": "row", "title": title, "gridPos": {"h": 1, "w": 24, "x": 0, "y": top}})
        for index, each in enumerate(chosen):
            place = {"h": HEIGHT, "w": WIDTH, "x": index % 3 * WIDTH, "y": top + 1 + index // 3 * HEIGHT}
            panels.append(_panel(each, place))
        top += 1 + -(-len(chosen) // 3) * HEIGHT
    for number, panel in enumerate(panels, 1):
        panel["id"] = number
    return {
        "title": "drawwell", "uid": "drawwell", "schemaVersion": 36, "editable": True, "refresh": "30s",
        "time": {"from": "now-24h", "to": "now"}, "panels": panels,
        "templating": {"list": [
            {"name": "datasource", "type": "datasource", "query": "prometheus"},
            _variable("job", "drawwell_ready", "job"),
            _variable("instance", 'drawwell_ready{job="$job"}', "instance"),
        ]},
    }  # fmt: skip


def _panel(series: Series, place: dict[str, int]) -> dict[str, Any]:
    unit = {"bytes": "bytes", "seconds": "s", "ratio": "percentunit"}.get(series.unit, "short")
    if series.kind is SeriesKind.COUNTER and unit == "bytes":
        unit = "Bps"
    legend = " ".join(f"{{{{{label}}}}}" for label in ("instance", *series.labels))
    return {
        "type": "table" if series.kind is SeriesKind.INFO else "timeseries",
        "title": series.what, "gridPos": place,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "targets": [{"expr": query(series), "legendFormat": legend, "refId": "A"}],
        "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
    }  # fmt: skip


def _variable(name: str, of: str, label: str) -> dict[str, Any]:
    return {
        "name": name, "type": "query", "query": f"label_values({of}, {label})", "refresh": 2,
        "includeAll": name == "instance", "multi": name == "instance",
    }  # fmt: skip


def main() -> int:
    """Write the file, or compare it."""
    text = json.dumps(dashboard(), indent=2) + "\n"
    stale = not FILE.is_file() or FILE.read_text() != text
    checking = "--check" in sys.argv[1:]
    if stale:
        print(f"{'out of date' if checking else 'wrote'}: {FILE.name}")
        if not checking:
            FILE.write_text(text)
    return int(checking and stale)


if __name__ == "__main__":
    sys.exit(main())
