"""The alerts for Prometheus, tested with its own promtool."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from drawwell.observe.link_series import EVERY_SERIES

RULES = Path(__file__).parents[2] / "packaging/prometheus/rules.yml"
PROMTOOL = shutil.which("promtool")
pytestmark = pytest.mark.skipif(PROMTOOL is None, reason="needs promtool")

WELL = {
    'up{job="drawwell"}': "1",
    "drawwell_ready": "1",
    'drawwell_source_state{source="stick",state="healthy"}': "1",
    'drawwell_source_stalled{source="stick"}': "0",
    'drawwell_source_raw_bytes_total{source="stick"}': "0+4096",
    'drawwell_health_margin_ratio{source="stick",test="t"}': "0.6",
    'drawwell_health_failures_total{source="stick",test="t"}': "3",
    'drawwell_source_firmware_verified{source="stick"}': "1",
    'drawwell_source_simulated{source="stick"}': "0",
    "drawwell_reservoir_bytes": "8000",
    "drawwell_reservoir_capacity_bytes": "8192",
    'drawwell_consumer_quota_left_bytes{consumer="web"}': "101",
    'drawwell_consumer_quota_bytes{consumer="web"}': "1000",
    'drawwell_certificate_expiry_seconds{certificate="server"}': "172801",
    'drawwell_certificate_expiry_seconds{certificate="intermediate"}': "1209601",
    'drawwell_certificate_expiry_seconds{certificate="ca"}': "5184001",
    'drawwell_link_ready{upstream="tls://well:55000"}': "1",
    'drawwell_link_certificate_expiry_seconds{upstream="tls://well:55000"}': "172801",
    "drawwell_clock_jumped": "0",
    'drawwell_guest_waiting{guest="vm"}': "0",
    "drawwell_audit_trouble": "0",
    "drawwell_signer_away": "0",
    "drawwell_state_trouble": "0",
    'drawwell_draws_total{class="full",result="QuotaExceeded"}': "3",
    'drawwell_draws_total{class="full",result="Starved"}': "0+1",
    "drawwell_ledger_balanced": "1",
    "drawwell_fleet_store_up": "1",
    "drawwell_fleet_store_away_seconds": "300",
    "drawwell_fleet_grace_seconds": "900",
    "drawwell_fleet_store_synchronous": "1",
    "drawwell_fleet_store_standbys": "1",
    "drawwell_fleet_standby_lag_seconds": "10",
    'drawwell_fleet_broker_info{broker="a",version="1"}': "1",
    'drawwell_fleet_broker_info{broker="b",version="1"}': "1",
    'drawwell_fleet_broker_info{broker="gone",version="0"}': "1",
    'drawwell_fleet_broker_seen_seconds{broker="a"}': "2",
    'drawwell_fleet_broker_seen_seconds{broker="b"}': "29",
    'drawwell_fleet_broker_ready{broker="a"}': "1",
    'drawwell_fleet_broker_unread_changes{broker="a"}': "0",
}
ILL = [
    ("DrawwellNotReady", {"drawwell_ready": "0"}),
    ("DrawwellAbsent", {'up{job="drawwell"}': "0"}),
    ("DrawwellSourceNotHealthy", {'drawwell_source_state{source="stick",state="healthy"}': "0"}),
    ("DrawwellSourceSilent", {'drawwell_source_stalled{source="stick"}': "1"}),
    (
        "DrawwellSourceSilent",
        {'drawwell_source_raw_bytes_total{source="stick"}': "7", "drawwell_reservoir_bytes": "4095"},
    ),
    ("DrawwellMarginShrinking", {'drawwell_health_margin_ratio{source="stick",test="t"}': "0.04"}),
    ("DrawwellHealthTestFailed", {'drawwell_health_failures_total{source="stick",test="t"}': "0+1"}),
    ("DrawwellFirmwareNotVerified", {'drawwell_source_firmware_verified{source="stick"}': "0"}),
    ("DrawwellSimulated", {'drawwell_source_simulated{source="stick"}': "1"}),
    ("DrawwellReservoirLow", {"drawwell_reservoir_bytes": "819"}),
    ("DrawwellQuotaNearlySpent", {'drawwell_consumer_quota_left_bytes{consumer="web"}': "99"}),
    ("DrawwellCertificateEnds", {'drawwell_certificate_expiry_seconds{certificate="server"}': "172799"}),
    ("DrawwellAuthorityEnds", {'drawwell_certificate_expiry_seconds{certificate="ca"}': "5183999"}),
    (
        "DrawwellAuthorityEnds",
        {'drawwell_certificate_expiry_seconds{certificate="intermediate"}': "1209599"},
    ),
    (
        "DrawwellCertificateEnds",
        {'drawwell_link_certificate_expiry_seconds{upstream="tls://well:55000"}': "172799"},
    ),
    ("DrawwellLinkDown", {'drawwell_link_ready{upstream="tls://well:55000"}': "0"}),
    ("DrawwellClockJumped", {"drawwell_clock_jumped": "1"}),
    ("DrawwellGuestWaits", {'drawwell_guest_waiting{guest="vm"}': "1"}),
    ("DrawwellAuditTrouble", {"drawwell_audit_trouble": "1"}),
    ("DrawwellStateTrouble", {"drawwell_state_trouble": "1"}),
    ("DrawwellSignerAway", {"drawwell_signer_away": "1"}),
    ("DrawwellQuotaSpent", {'drawwell_draws_total{class="full",result="QuotaExceeded"}': "0+1"}),
    ("DrawwellLedgerUnbalanced", {"drawwell_ledger_balanced": "0"}),
    ("DrawwellFleetStoreAway", {"drawwell_fleet_store_away_seconds": "301"}),
    ("DrawwellFleetStandbyMissing", {"drawwell_fleet_store_standbys": "0"}),
    ("DrawwellFleetStandbyNotSynchronous", {"drawwell_fleet_store_synchronous": "0"}),
    ("DrawwellFleetStandbyBehind", {"drawwell_fleet_standby_lag_seconds": "11"}),
    ("DrawwellFleetBrokerSilent", {'drawwell_fleet_broker_seen_seconds{broker="b"}': "31"}),
    ("DrawwellFleetBrokerNotReady", {'drawwell_fleet_broker_ready{broker="a"}': "0"}),
    ("DrawwellFleetBrokerBehind", {'drawwell_fleet_broker_unread_changes{broker="a"}': "1"}),
    ("DrawwellFleetVersionSkew", {'drawwell_fleet_broker_info{broker="b",version="2"}': "1"}),
]
END_MINUTES = 60


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def series(changed: dict[str, str]) -> list[dict[str, str]]:
    found = {**WELL, **changed}
    return [{"series": name, "values": f"{value}x{END_MINUTES}"} for name, value in found.items()]


def asked(alert: str, minute: int, *, fires: bool) -> dict[str, Any]:
    """Return a query in the test format: does `alert` fire at that time?"""
    count = [{"labels": "{}", "value": 1}] if fires else []
    return {
        "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})',
        "eval_time": f"{minute}m",
        "exp_samples": count,
    }


def promtool(folder: Path, tests: list[dict[str, Any]]) -> None:
    file = folder / "tests.yml"
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    done = subprocess.run([str(PROMTOOL), "test", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_fires_for_its_trouble_and_for_no_other(tmp_path: Path) -> None:
    """With one fault, only its own alert fires."""
    named = {alert["alert"] for alert in alerts()}
    assert {alert for alert, _ in ILL} == named
    promtool(
        tmp_path,
        [
            {
                "interval": "1m",
                "name": f"{alert} {sorted(changed)}",
                "input_series": series(changed),
                "promql_expr_test": [asked(each, END_MINUTES, fires=each == alert) for each in sorted(named)],
            }
            for alert, changed in ILL
        ],
    )


def test_no_alert_fires_while_all_is_well(tmp_path: Path) -> None:
    """Each figure is just within its limit."""
    questions = [asked(alert["alert"], END_MINUTES, fires=False) for alert in alerts()]
    promtool(tmp_path, [{"interval": "1m", "input_series": series({}), "promql_expr_test": questions}])


def test_an_alert_waits_for_its_delay(tmp_path: Path) -> None:
    """An alert with a delay does not fire before it."""
    late = {alert["alert"]: alert["for"] for alert in alerts() if "for" in alert}
    troubles = dict(reversed(ILL))
    promtool(
        tmp_path,
        [
            {
                "interval": "1m",
                "input_series": series(troubles[alert]),
                "promql_expr_test": [asked(alert, int(wait[:-1]) - 1, fires=False)],
            }
            for alert, wait in late.items()
        ],
    )


def test_the_alerts_ask_for_series_that_there_are() -> None:
    """Every series name in a rule is in the table of series."""
    known = {each.full_name for each in EVERY_SERIES}
    asked_for = set(re.findall(r"drawwell_\w+", " ".join(alert["expr"] for alert in alerts())))
    assert asked_for <= known


def test_every_alert_has_a_hint() -> None:
    """Each alert has a summary and a hint."""
    assert all({"summary", "hint"} <= alert["annotations"].keys() for alert in alerts())
