"""The output line for Nagios and Icinga."""

import re
from dataclasses import replace

import pytest

from drawwell.observe.nagios import PluginState, plugin_line
from drawwell.reports import BrokerReport, CertificateReport, SourceState, as_json
from support.reports import broker_report

WELL = replace(broker_report(), ready=True, not_ready_because="")
# 'label'=value[UOM];[warn];[crit];[min];[max] of the guidelines
FIGURE = re.compile(r"[a-z]+=[0-9.]+(B|c|s|%)?(;[0-9.:]*){0,4}")


def line(report: BrokerReport) -> tuple[PluginState, str]:
    return plugin_line(as_json(report))


def test_a_broker_that_is_well_is_ok() -> None:
    """State, text and figures are in one line, as the guidelines require."""
    state, text = line(WELL)
    said, _, figures = text.partition(" | ")
    assert (state, said) == (PluginState.OK, "DRAWWELL OK - 1 of 1 sources healthy")
    assert all(FIGURE.fullmatch(each) for each in figures.split())
    assert "reservoir=4096B;819:;;0;8192" in figures


@pytest.mark.parametrize(
    ("trouble", "state", "text"),
    [
        ({"ready": False, "not_ready_because": "no noise source"}, PluginState.CRITICAL, "no noise source"),
        ({"audit_trouble": True}, PluginState.CRITICAL, "audit log"),
        ({"state_trouble": True}, PluginState.CRITICAL, "the state cannot be written"),
        ({"signer_away": True}, PluginState.CRITICAL, "the signer does not answer"),
        ({"reservoir_bytes": 818}, PluginState.WARNING, "nearly empty"),
        ({"certificates": (CertificateReport("server", 172_799.0),)}, PluginState.WARNING, "server expires"),
        ({"clock_jumped": True}, PluginState.WARNING, "clock jumped"),
    ],
)
def test_each_trouble_has_its_state(trouble: dict[str, object], state: PluginState, text: str) -> None:
    """Faults that need action at once are critical; the others are warnings."""
    found, shown = line(replace(WELL, **trouble))
    assert found is state
    assert text in shown


def test_a_source_that_failed_is_named_with_its_error() -> None:
    """The line has source and reason, and an error cannot end the line."""
    source = replace(WELL.sources[0], state=SourceState.PERMANENT_FAILURE, last_error="a | b\nc")
    state, text = line(replace(WELL, sources=(source,)))
    assert state is PluginState.WARNING
    assert "source stick is permanent failure: a / b c |" in text
    assert "\n" not in text


def test_the_worst_comes_first() -> None:
    """With several faults, the worst determines the state and comes first."""
    state, text = line(replace(WELL, clock_jumped=True, audit_trouble=True))
    assert state is PluginState.CRITICAL
    assert text.index("audit") < text.index("clock")
