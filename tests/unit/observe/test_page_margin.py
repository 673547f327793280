"""Health-test margins on the status page."""

from drawwell.observe.page import page
from drawwell.reports import as_json
from support.reports import broker_report


def shown(history: list[float | None]) -> str:
    """Return the page of a source with this test history."""
    report = as_json(broker_report())
    report["sources"][0]["tests"][0]["history"] = history
    return page(report, names=True)


def test_the_day_stands_with_the_margin() -> None:
    """The lowest margin of 24 hours is shown as text, and plotted if possible."""
    text = shown([None, 0.75, 0.5, None])
    assert "repetition count of samples: 64%, at least 25% in the last 24 hours <svg" in text


def test_without_history_the_margin_stands_alone() -> None:
    """Without history, nothing is shown for 24 hours."""
    for history in ([], [None, None]):
        assert "in the last 24 hours" not in shown(history)
