"""The health history of sources: minutes, days and their limits."""

from dataclasses import replace

from drawwell.entropy.health_history import LENGTH, HealthHistory, Row, Span, parts_of
from drawwell.reports import DriftReport, SourceReport
from support.reports import broker_report

DAY_S = 86_400.0
TEST = "repetition count (sample)"


def reported(count: int, raw_bytes: int, *, name: str = "stick", estimate: float = 7.0) -> SourceReport:
    """Return a source with one test, with cutoff 11."""
    source = broker_report().sources[0]
    return replace(
        source,
        identity=replace(source.identity, name=name),
        raw_bytes=raw_bytes,
        tests=(replace(source.tests[0], recent_count=count),),
        drift=DriftReport(estimate),
    )


def test_a_minute_and_a_day_roll_over() -> None:
    """Records within a minute or day are merged; the next has its own row."""
    history = HealthHistory(2)
    history.note([reported(5, 100)], 60.0)
    history.note([reported(3, 200, estimate=6.5)], 119.0)
    history.note([reported(11, 300, estimate=0.0)], 120.0)
    history.note([reported(2, 400)], DAY_S)

    rows = history.sources["stick"].rows
    assert list(rows[Span.MINUTE]) == [
        Row(1, 6.5, (0.455,)), Row(2, 0.0, (1.0,)), Row(1440, 7.0, (0.182,))
    ]  # fmt: skip
    assert list(rows[Span.DAY]) == [Row(0, 6.5, (1.0,)), Row(1, 7.0, (0.182,))]


def test_a_silent_source_has_a_gap() -> None:
    """Without new samples no row is added."""
    history = HealthHistory(2)
    for now in (60.0, 120.0, 180.0):
        history.note([reported(5, 100), replace(reported(0, 0, name="gone"), tests=())], now)

    assert [row.at for row in history.sources["stick"].rows[Span.MINUTE]] == [1]
    assert "gone" not in history.sources


def test_a_year_of_minutes_stays_within_its_bounds() -> None:
    """Of 400 days, 365 are kept, and 24 hours of minutes."""
    history = HealthHistory(2)
    for hour in range(400 * 24):
        history.note([reported(1, hour + 1)], hour * 3600.0)

    stick = history.sources["stick"]
    assert {span: len(rows) for span, rows in stick.rows.items()} == LENGTH
    assert len(stick.since(Span.MINUTE, 400 * DAY_S - 3600)) == 24
    assert [row.at for row in stick.since(Span.DAY, 400 * DAY_S - 3600)] == list(range(35, 400))


def test_the_number_of_sources_is_bounded() -> None:
    """At the limit a new source replaces the one recorded longest ago."""
    history = HealthHistory(2)
    history.note([reported(1, 1, name="a"), reported(1, 1, name="b")], 60.0)
    history.note([reported(1, 2, name="a"), reported(1, 1, name="c")], 120.0)

    assert set(history.sources) == {"a", "c"}


def test_a_clock_that_was_set_back_goes_on() -> None:
    """Rows with a later time are dropped, so that recording continues."""
    history = HealthHistory(2)
    history.note([reported(1, 1)], 400 * DAY_S)
    history.note([reported(2, 2)], 60.0)

    assert [row.at for row in history.sources["stick"].rows[Span.MINUTE]] == [1]


def test_parts_are_the_worst_of_their_time() -> None:
    """A part has the worst of its rows, or None if it has no row."""
    now = 1440 * 60.0
    rows = [Row(1440 - 30, 7.0, (0.1,)), Row(1440 - 29, 6.0, (0.2,)), Row(1440, 7.0, (0.9,))]

    assert parts_of(rows, Span.MINUTE, now, 48)[-3:] == [None, rows[0], rows[1].joined(rows[2])]


def test_a_day_of_the_report_is_by_test() -> None:
    """The present is the last part; an unknown source has no parts."""
    history = HealthHistory(2)
    history.note([reported(11, 1)], 60.0)

    assert history.day("stick", 60.0, 4) == {TEST: [None, None, None, 1.0]}
    assert history.day("other", 60.0, 4) == {}


def test_a_report_without_a_cutoff_is_noted() -> None:
    """A process can send a cutoff of zero; it counts as one."""
    history = HealthHistory(2)
    bad = reported(1, 1)
    history.note([replace(bad, tests=(replace(bad.tests[0], cutoff_intermittent=0),))], 60.0)

    assert history.sources["stick"].rows[Span.MINUTE][0].nearness == (1.0,)
