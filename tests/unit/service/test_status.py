"""A broker's state in the service manager's status line."""

from dataclasses import replace

import pytest

from drawwell.reports import BrokerReport, LedgerReport, SourceIdentity, SourceReport, SourceState
from drawwell.service.status import BrokerStatusLine

LEDGER = LedgerReport(0, 0, 0, 0, 0, 0, 0, 0, balanced=True)
SOURCE = SourceReport(
    SourceIdentity("stick", "onerng", "/dev/x"), SourceState.HEALTHY, False, 1, 0, 0, 0, 0, 0, 0.0, 0, 0, ""
)
BROKER = BrokerReport("well", "1", 1.0, True, "", 1, 1, 4096, 8192, 31_950.0, LEDGER, (SOURCE,))  # fmt: skip


def line_of(report: BrokerReport, *consumers: str, served_for_s: float = 0.0) -> str:
    """Return the status line `served_for_s` after the broker was healthy."""
    now = [0.0]
    said = BrokerStatusLine(lambda: report, lambda: frozenset(consumers), lambda: now[0])
    now[0] = served_for_s
    return said()


def ill(state: SourceState, **more: object) -> BrokerReport:
    source = replace(SOURCE, state=state, **more)
    return replace(BROKER, ready=False, not_ready_because="0 of 1 noise sources healthy", sources=(source,))


def test_a_healthy_broker_shows_rate_and_consumers() -> None:
    """The line has the rate and the number of consumers, also in the singular."""
    assert line_of(BROKER, "a", "b", "c") == "healthy, 31.2KiB/s full entropy, 3 consumers"
    assert line_of(BROKER, "a").endswith(", 1 consumer")


def test_an_empty_reservoir_is_starved() -> None:
    """A broker with an empty reservoir is not shown as healthy."""
    assert line_of(replace(BROKER, reservoir_bytes=0)).startswith("starved, ")


def test_a_silent_source_is_stalled_for_so_long() -> None:
    """The line has the seconds since the broker was healthy, and the reason."""
    report = ill(SourceState.OFF, stalled=True, last_error="no sample within 3 s")
    assert line_of(report, served_for_s=12.4) == "STALLED 12 s: stick: no sample within 3 s"


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (replace(ill(SourceState.OFF), sources=()), "no source"),
        (ill(SourceState.OFF, last_error="/dev/x is not there"), "no source: stick: /dev/x is not there"),
        (ill(SourceState.STARTING), "starting"),
        (ill(SourceState.PERMANENT_FAILURE, last_error="it repeats"), "FAILED: stick: it repeats"),
        (ill(SourceState.INTERMITTENT_FAILURE), "0 of 1 noise sources healthy"),
        (replace(BROKER, ready=False, not_ready_because="no answer"), "no answer"),
    ],
)
def test_whatever_is_wrong_is_said(report: BrokerReport, said: str) -> None:
    """Absent, starting and failed sources have different lines."""
    assert line_of(report) == said
