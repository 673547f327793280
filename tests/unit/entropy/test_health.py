"""The source state machine: returned blocks, latches, kept state."""

import pytest

from drawwell.entropy.blocks import RawBlock, TestedBlock
from drawwell.entropy.cutoffs import STARTUP_SAMPLES
from drawwell.entropy.health import MOVES, Event, HealthMonitor, NoiseClaim
from drawwell.errors import HealthFailure, IntermittentHealthFailure, PermanentHealthFailure
from drawwell.reports import SourceState
from drawwell.testing.sick import SickStream, good

SIX = bytes([0x5A]) * 6
ELEVEN = bytes([0x5A]) * 11


def started() -> tuple[HealthMonitor, SickStream]:
    monitor = HealthMonitor(NoiseClaim(), hash_key=bytes(32))
    monitor.start()
    return monitor, good()


def healthy() -> tuple[HealthMonitor, SickStream]:
    monitor, source = started()
    assert monitor.feed(RawBlock(source.read(STARTUP_SAMPLES)), 0.0) is None
    return monitor, source


def fail(monitor: HealthMonitor, samples: bytes, now: float) -> HealthFailure:
    with pytest.raises(HealthFailure) as caught:
        monitor.feed(RawBlock(b"\0" + samples + b"\1"), now)
    return caught.value


def start_up(monitor: HealthMonitor, source: SickStream) -> None:
    while monitor.state is not SourceState.HEALTHY:
        monitor.feed(RawBlock(source.read(1024)), 0.0)


def test_moves_leave_permanent_failure_by_reset_only() -> None:
    """Only an operator's reset ends a permanent failure."""
    permanent = SourceState.PERMANENT_FAILURE
    ways_out = {
        event for (state, event), then in MOVES.items() if state is permanent and then is not permanent
    }

    assert ways_out == {Event.RESET}


def test_moves_take_every_operators_event_in_every_state() -> None:
    """Start, stop and reset are always legal, test results only while testing.

    A comparison with another source may condemn a source that was closed meanwhile.
    """
    assert set(MOVES) == {
        (state, event)
        for state in SourceState
        for event in Event
        if event in (Event.START, Event.STOP, Event.RESET)
        or state in (SourceState.STARTING, SourceState.INTERMITTENT_FAILURE)
        or (state is SourceState.OFF and event is Event.PERMANENT)
        or (state is SourceState.HEALTHY and event is not Event.PASSED)
    }


def test_health_is_reached_through_passed_startup_tests_only() -> None:
    """Only passing the start-up tests makes a source healthy."""
    ways_in = {event for (state, event), then in MOVES.items() if then is SourceState.HEALTHY is not state}

    assert ways_in == {Event.PASSED}


def test_startup_samples_are_never_used() -> None:
    """All blocks are withheld, including the one that completes the tests."""
    monitor, source = started()
    for _ in range(STARTUP_SAMPLES // 64):
        assert monitor.state is SourceState.STARTING
        assert monitor.feed(RawBlock(source.read(64)), 0.0) is None

    assert (monitor.state, monitor.epoch) == (SourceState.HEALTHY, 1)


def test_healthy_blocks_come_back_assessed() -> None:
    """A passing block is returned unchanged, with H per byte assessed."""
    monitor, source = healthy()
    data = source.read(101)
    tested = monitor.feed(RawBlock(data), 1.0)

    assert isinstance(tested, TestedBlock)
    assert (tested.data, tested.assessed) == (data, 606)


@pytest.mark.parametrize(
    ("h", "n", "bits"), [(6.0, 1, 6), (7.3, 10, 73), (0.7, 9, 6), (0.1, 30, 3), (8.0, 0, 0)]
)
def test_assessed_bits_are_exact(h: float, n: int, bits: int) -> None:
    """floor(H n) uses H as the written decimal, so 0.1 times 30 is 3."""
    assert NoiseClaim(h).assessed(n) == bits


@pytest.mark.parametrize("h", [0.0, -1.0, 8.1, float("nan"), float("inf")])
def test_claim_refuses_impossible_min_entropy(h: float) -> None:
    """A claim must be above zero and at most eight bits per byte."""
    with pytest.raises(ValueError, match="above 0 and at most 8"):
        NoiseClaim(h)


def test_intermittent_failure_voids_the_block_and_starts_up_again() -> None:
    """After an intermittent failure the start-up tests must pass again."""
    monitor, source = healthy()
    failure = fail(monitor, SIX, 10.0)

    assert type(failure) is IntermittentHealthFailure
    assert (monitor.state, monitor.failures) == (SourceState.INTERMITTENT_FAILURE, 1)
    for _ in range(4):
        assert monitor.epoch == 1
        assert monitor.feed(RawBlock(source.read(1024)), 11.0) is None
    assert (monitor.state, monitor.epoch) == (SourceState.HEALTHY, 2)
    assert monitor.feed(RawBlock(source.read(64)), 12.0) is not None


def test_failure_during_startup_begins_it_again() -> None:
    """A failure during the start-up tests restarts them."""
    monitor, source = started()
    monitor.feed(RawBlock(source.read(4000)), 0.0)
    fail(monitor, SIX, 1.0)
    monitor.feed(RawBlock(source.read(4000)), 2.0)

    assert (monitor.state, monitor.epoch) == (SourceState.INTERMITTENT_FAILURE, 0)


def test_third_intermittent_failure_within_ten_minutes_is_permanent() -> None:
    """Failures at 0, 300 and 600 s latch, even with start-ups in between."""
    monitor, source = healthy()
    for now in (0.0, 300.0):
        assert type(fail(monitor, SIX, now)) is IntermittentHealthFailure
        start_up(monitor, source)
    failure = fail(monitor, SIX, 600.0)

    assert type(failure) is PermanentHealthFailure
    assert str(failure) == "third failure within ten minutes: repetition count test: 6 equal bytes in a row"
    assert monitor.state is SourceState.PERMANENT_FAILURE


def test_three_intermittent_failures_in_more_than_ten_minutes_are_not() -> None:
    """Failures at 0, 300 and 600.5 s do not latch; one more at 900 s does."""
    monitor, _ = healthy()
    kinds = [type(fail(monitor, SIX, now)) for now in (0.0, 300.5, 600.5, 900.0)]

    assert kinds == [IntermittentHealthFailure] * 3 + [PermanentHealthFailure]


def test_permanent_failure_outweighs_an_intermittent_one_before_it() -> None:
    """The worst failure in a block decides, whatever its position."""
    monitor, source = healthy()
    failure = fail(monitor, SIX + source.read(100) + b"\0" + ELEVEN, 0.0)

    assert type(failure) is PermanentHealthFailure
    assert (failure.count, failure.position) == (11, 1 + 6 + 100 + 1 + 10)
    assert monitor.failures == 1


def test_first_of_equal_failures_is_reported() -> None:
    """Of two intermittent failures in a block, the first is reported."""
    monitor, source = healthy()
    bits = b"\x0f\xff\xff\xff\xff\xff\xf0"  # 48 ones, from the fifth bit on
    failure = fail(monitor, source.read(50) + bits + source.read(50) + b"\0" + SIX, 0.0)

    assert (failure.test, failure.count, failure.position) == ("repetition count", 41, 8 * 51 + 4 + 40)


def test_permanent_failure_is_latched_over_reconnects() -> None:
    """After a restart and good samples, every block is still refused."""
    monitor, source = healthy()
    first = fail(monitor, ELEVEN, 0.0)
    monitor.stop()
    monitor.start()
    again = fail(monitor, source.read(1000), 5000.0)

    assert type(first) is type(again) is PermanentHealthFailure
    assert (str(first), first.position) == (str(again), again.position)
    assert monitor.state is SourceState.PERMANENT_FAILURE


def test_reset_lets_a_fixed_source_start_with_a_clean_record() -> None:
    """After a reset the source is off, without runs or recorded failures."""
    monitor, source = healthy()
    for samples in (SIX, SIX, ELEVEN):
        fail(monitor, samples, 0.0)
    monitor.reset()
    assert monitor.state is SourceState.OFF

    monitor.start()
    monitor.feed(RawBlock(b"\1" * 5 + source.read(STARTUP_SAMPLES)), 1.0)
    assert (monitor.state, monitor.epoch) == (SourceState.HEALTHY, 2)
    assert [type(fail(monitor, SIX, now)) for now in (2.0, 3.0)] == [IntermittentHealthFailure] * 2


def test_reset_changes_nothing_but_a_permanent_failure() -> None:
    """A reset does not clear two intermittent failures."""
    monitor, source = healthy()
    for now in (0.0, 1.0):
        fail(monitor, SIX, now)
    start_up(monitor, source)
    monitor.reset()

    assert monitor.state is SourceState.HEALTHY
    assert type(fail(monitor, SIX, 2.0)) is PermanentHealthFailure


def test_failure_history_survives_reconnects() -> None:
    """Failures are counted across reconnects."""
    monitor, _ = started()
    for now in (0.0, 1.0):
        fail(monitor, SIX, now)
        monitor.stop()
        monitor.start()

    assert type(fail(monitor, SIX, 2.0)) is PermanentHealthFailure


def test_open_run_survives_a_reconnect() -> None:
    """Three equal samples before a reconnect and three after it count as six."""
    monitor, source = healthy()
    monitor.feed(RawBlock(source.read(64) + b"\x5a" * 3), 0.0)
    monitor.stop()
    monitor.start()
    with pytest.raises(IntermittentHealthFailure) as caught:
        monitor.feed(RawBlock(b"\x5a" * 3), 1.0)

    assert caught.value.position == 2


def test_known_samples_survive_a_reconnect() -> None:
    """The repeat test detects equal samples after each power-on."""
    monitor, _ = healthy()
    monitor.stop()
    monitor.start()
    with pytest.raises(HealthFailure) as caught:
        monitor.feed(RawBlock(good().read(STARTUP_SAMPLES)), 1.0)

    assert caught.value.test == "repeat"


def test_start_while_healthy_is_the_on_demand_test() -> None:
    """A healthy source withholds samples until the on-demand test passes."""
    monitor, source = healthy()
    monitor.start()
    assert monitor.state is SourceState.STARTING
    assert monitor.feed(RawBlock(source.read(STARTUP_SAMPLES)), 0.0) is None

    assert (monitor.state, monitor.epoch) == (SourceState.HEALTHY, 2)


def test_the_recent_count_is_of_the_last_minute() -> None:
    """A run of five leaves the recent count, but not the worst count."""
    monitor, source = healthy()
    monitor.feed(RawBlock(b"\0" + b"\x07" * 5 + b"\0"), 1000.0)
    recent = []
    for now in (1000.0, 1060.0, 1119.0, 1120.0):
        monitor.feed(RawBlock(source.read(64)), now)
        recent.append(monitor.reports()[0].recent_count)

    assert recent[:3] == [5, 5, 5]
    assert recent[3] < 5
    assert monitor.reports()[0].worst_count == 5


def test_reports_name_window_claim_and_worst_count() -> None:
    """A report has test, unit, claim, window and worst count."""
    monitor, source = healthy()
    monitor.feed(RawBlock(source.read(1000) + b"\x5a" * 5 + source.read(1000)), 0.0)
    reports = {(report.name, report.unit): report for report in monitor.reports()}
    byte_run = reports["repetition count", "byte"]

    assert (byte_run.min_entropy, byte_run.window, byte_run.worst_count, byte_run.failures) == (6.0, 0, 5, 0)
    assert (
        reports["adaptive proportion", "bit"].min_entropy,
        reports["adaptive proportion", "bit"].window,
    ) == (
        0.75,
        1024,
    )


def test_claim_chooses_the_tests() -> None:
    """Without bit tests, the byte tests remain."""
    monitor = HealthMonitor(NoiseClaim(4.0, bits=False), hash_key=bytes(32))

    assert [(r.name, r.unit) for r in monitor.reports()] == [
        ("repetition count", "byte"),
        ("adaptive proportion", "byte"),
        ("repeat", "byte"),
        ("distant repeat", "landmark"),
    ]


def test_failure_messages_hold_no_sample() -> None:
    """A failure's message has counts and positions, but no samples."""
    monitor, _ = healthy()
    failure = fail(monitor, ELEVEN, 0.0)

    assert str(failure) == "repetition count test: 11 equal bytes in a row"
    assert failure.hint == "Check the device, then restart it with `drawwell source reset`."
