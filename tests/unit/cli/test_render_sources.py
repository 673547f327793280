"""The display of a starting source and of a drifting one."""

from dataclasses import replace

from drawwell.cli.render import sources_table
from drawwell.reports import DriftReport, SourceIdentity, SourceReport, SourceState, as_json

REPORT = SourceReport(
    SourceIdentity("pi", "chardev", "/dev/hwrng"), SourceState.STARTING, False, 0, 0, 0, 0, 0, 0, 0.0, 0, 0, "",
    startup_bytes=412, startup_left_s=181.4,
)  # fmt: skip


def test_a_slow_start_shows_how_much_is_still_to_come() -> None:
    """The line has samples read, samples needed and the remaining time."""
    shown = sources_table([as_json(REPORT)])
    assert "pi: 412 of 4,096 start-up samples, about 3.03 min left" in shown


def test_a_healthy_source_has_no_start_up() -> None:
    """A healthy source shows neither progress nor drift."""
    shown = sources_table([as_json(replace(REPORT, state=SourceState.HEALTHY))])
    assert "start-up samples" not in shown
    assert "more often" not in shown


def test_a_drifting_source_is_shown_before_it_fails() -> None:
    """The alarm appears below the table while the source is healthy."""
    drift = DriftReport(5.1, 1, True)
    shown = sources_table([as_json(replace(REPORT, state=SourceState.HEALTHY, drift=drift))])
    assert "pi: the most common value occurs more often than min_entropy allows" in shown
