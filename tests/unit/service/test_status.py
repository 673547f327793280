"""What a broker's state looks like in the service manager's status line."""

from dataclasses import replace

import pytest

from drawwell.reports import BrokerReport, LedgerReport, SourceIdentity, SourceReport, SourceState
from drawwell.service.status import BrokerStatusLine

LEDGER = LedgerReport(0, 0, 0, 0, 0, 0, 0, 0, balanced=True)
SOURCE = SourceReport(
    SourceIdentity("stick", "onerng", "/dev/x"), SourceState.HEALTHY, False, 1, 0, 0, 0, 0, 0, 0.0, 0, 0, ""
)
BROKER = BrokerReport("well", "1", 1.0, True, "", 1, 1, 4096, 8192, 31_950.0, LEDGER, (SOURCE,))  # fmt: skip


def words(report: BrokerReport, *consumers: str, served_for_s: float = 0.0) -> str:
    """What is said of `report`, `served_for_s` after the broker was well."""
    now = [0.0]
    said = BrokerStatusLine(lambda: report, lambda: frozenset(consumers), lambda: now[0])
    now[0] = served_for_s
    return said()


def ill(state: SourceState, **more: object) -> BrokerReport:
    source = replace(SOURCE, state=state, **more)
    return replace(BROKER, ready=False, not_ready_because="0 of 1 noise sources healthy", sources=(source,))


def test_a_healthy_broker_says_how_much_and_to_whom() -> None:
    """Rate and consumers stand behind the word healthy; one consumer is not several."""
    assert words(BROKER, "a", "b", "c") == "healthy, 31.2KiB/s full entropy, 3 consumers"
    assert words(BROKER, "a").endswith(", 1 consumer")


def test_an_empty_reservoir_is_starved() -> None:
    """A broker with healthy sources and nothing in hand does not call itself healthy."""
    assert words(replace(BROKER, reservoir_bytes=0)).startswith("starved, ")


def test_a_silent_source_is_stalled_for_so_long() -> None:
    """The seconds since it was well are counted, and what is wrong is named."""
    report = ill(SourceState.OFF, stalled=True, last_error="no sample within 3 s")
    assert words(report, served_for_s=12.4) == "STALLED 12 s: stick: no sample within 3 s"


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (replace(ill(SourceState.OFF), sources=()), "no source"),
        (ill(SourceState.OFF, last_error="/dev/x is not there"), "no source: stick: /dev/x is not there"),
        (ill(SourceState.STARTING), "starting"),
        (ill(SourceState.PERMANENT_FAILURE, last_error="it repeats"), "FAILED: stick: it repeats"),
        (ill(SourceState.INTERMITTENT_FAILURE), "0 of 1 noise sources healthy"),
    ],
)
def test_whatever_is_wrong_is_said(report: BrokerReport, said: str) -> None:
    """No source, a source that starts and one that failed are told apart."""
    assert words(report) == said
