"""Write the dashboard for Grafana and the alerts for Kubernetes.

With --check the command writes nothing, and exits with 1 if a file is out of date. The
dashboard was never tested in Grafana, which is not available during development; only its
queries are tested.
"""

import json
import sys
from pathlib import Path
from textwrap import indent
from typing import Any, Final

from drawwell.observe.family import Series, SeriesKind
from drawwell.observe.link_series import EVERY_SERIES

PACKAGING: Final = Path(__file__).resolve().parent.parent / "packaging"
FILE: Final = PACKAGING / "grafana/drawwell.json"
RULES: Final = PACKAGING / "prometheus/rules.yml"
RULES_OBJECT: Final = PACKAGING / "kubernetes/monitoring/prometheusrule.yaml"
ROWS: Final = (
    (
        "Health",
        ("ready", "not_ready", "sources_", "ledger", "clock", "audit", "state_", "signer", "build", "uptime"),
    ),
    ("Sources", ("source_", "health")),
    ("Supply and draws", ("reservoir", "supply", "draw", "receipts", "delivered", "starved")),
    ("Sessions and certificates", ("sessions", "handshakes", "certificate")),
    ("Kernel and other sinks", ("sink",)),
    ("Links to other brokers", ("link_",)),
    ("Guests", ("guest",)),
    ("Consumers", ("consumer",)),
    ("Fleet", ("fleet",)),
)
WIDTH: Final = 8
HEIGHT: Final = 7


def query(series: Series) -> str:
    """Return the query: the rate of a counter, the 99th percentile of times."""
    name = f'{series.full_name}{{job="$job",instance=~"$instance"}}'
    if series.kind is SeriesKind.COUNTER:
        return f"rate({name}[5m])"
    if series.kind is SeriesKind.HISTOGRAM:
        bucket = name.replace(series.full_name, f"{series.full_name}_bucket")
        return f"histogram_quantile(0.99, sum by (le, instance) (rate({bucket}[5m])))"
    return name


def dashboard() -> dict[str, Any]:
    """Return the dashboard: a panel for each series, in one row per subject."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, subjects in ROWS:
        chosen = [
            each for each in EVERY_SERIES if each.full_name.removeprefix("drawwell_").startswith(subjects)
        ]
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


def rules_object() -> str:
    """Return the alerts as an object of the Prometheus operator."""
    head = "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: drawwell\nspec:\n"
    _comment, groups, rules = RULES.read_text().partition("groups:\n")
    return "# Made of packaging/prometheus/rules.yml by make man.\n" + head + indent(groups + rules, "  ")


def main() -> int:
    """Write the files, or compare them."""
    texts = {FILE: json.dumps(dashboard(), indent=2) + "\n", RULES_OBJECT: rules_object()}
    stale = [file for file, text in texts.items() if not file.is_file() or file.read_text() != text]
    checking = "--check" in sys.argv[1:]
    for file in stale:
        print(f"{'out of date' if checking else 'wrote'}: {file.name}")
        if not checking:
            file.write_text(texts[file])
    return int(checking and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
