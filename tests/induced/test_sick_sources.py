"""Failing sources are detected as the cutoffs promise; good ones pass."""

import json
from pathlib import Path

import pytest

from drawwell.entropy.blocks import RawBlock
from drawwell.entropy.health import HealthMonitor, NoiseClaim
from drawwell.entropy.landmarks import LANDMARKS, DistantRepeatTest
from drawwell.entropy.repeat import RepeatTest
from drawwell.errors import HealthFailure, PermanentHealthFailure
from drawwell.reports import SourceState
from drawwell.testing.sick import SickStream, biased, counter, good, loop, replaying, spliced, stuck

IN_USE = json.loads((Path(__file__).parents[1] / "vectors/cutoffs_in_use.json").read_text())
REPLAY = IN_USE["repeat"]["replay_fires_within_bytes"]
LOOP = IN_USE["repeat"]["loop_fires_within_period_plus"]
LOOP_FOR_GOOD = IN_USE["repeat"]["loop_permanent_within_period_plus"]
KEY = bytes(range(32))
PERIODS = [*range(1, 71), 127, 255, 256, 257, 1000, 4095, 4096, 4097, 12_345, 65_535, 65_536]


def new_monitor(claim: NoiseClaim | None = None) -> HealthMonitor:
    monitor = HealthMonitor(claim or NoiseClaim(), hash_key=KEY)
    monitor.start()
    return monitor


def failure_within(
    source: SickStream, n_bytes: int, monitor: HealthMonitor | None = None
) -> HealthFailure | None:
    """Test the next n samples of a source in one block."""
    try:
        (monitor or new_monitor()).feed(RawBlock(source.read(n_bytes)), now=0.0)
    except HealthFailure as failure:
        return failure
    return None


def samples_to_permanent(
    source: SickStream, monitor: HealthMonitor, limit: int, size: int = 64
) -> int | None:
    """Feed until a permanent failure; return the samples, or None."""
    for fed in range(size, limit + size, size):
        failure = failure_within(source, size, monitor)
        if isinstance(failure, PermanentHealthFailure):
            return fed
    return None


def healthy_monitor(seed: int) -> HealthMonitor:
    monitor = new_monitor()
    assert monitor.feed(RawBlock(good(seed).read(4096)), now=0.0) is None
    assert monitor.state is SourceState.HEALTHY
    return monitor


@pytest.mark.parametrize("value", [0x00, 0xFF, 0x5A])
def test_stuck_source_fails_on_its_sixth_sample_and_for_good_on_its_eleventh(value: int) -> None:
    """A stuck source fails at 6 equal bytes, and permanently at 11."""
    failure = failure_within(stuck(value), 6)

    assert failure_within(stuck(value), 5) is None
    assert (failure.test, failure.count, failure.position) == ("repetition count", 6, 5)
    assert samples_to_permanent(stuck(value), new_monitor(), 100, size=1) == 11


def test_stuck_after_healthy_returns_nothing() -> None:
    """A source that gets stuck within a block returns nothing of that block."""
    monitor = healthy_monitor(1)
    failure = failure_within(spliced(good(2).read(1000), stuck(0)), 2000, monitor)

    assert type(failure) is PermanentHealthFailure
    assert monitor.state is SourceState.PERMANENT_FAILURE


@pytest.mark.parametrize("step", [1, 3, 255])
def test_counter_is_caught_as_a_loop_of_256(step: int) -> None:
    """A counter is balanced, but fails as a loop of 256, soon permanently."""
    assert failure_within(counter(7, step), 256 + LOOP) is not None
    assert failure_within(counter(7, step), 255) is None
    assert isinstance(failure_within(counter(7, step), 256 + LOOP_FOR_GOOD), PermanentHealthFailure)


@pytest.mark.parametrize("period", PERIODS)
def test_repeat_test_fires_on_every_loop_within_its_promise(period: int) -> None:
    """A loop of period p fails within p + 23, permanently within p + 1,043."""
    for before in (0, 1, 11, 13):
        test = RepeatTest(6.0, hash_key=KEY)
        source = loop(period, seed=1000 + period)
        assert test.feed(good(before).read(before)) is None
        if period > 12:
            assert test.feed(source.read(period)) is None  # no repeat yet
            first, second = test.feed(source.read(LOOP)), test.feed(source.read(LOOP_FOR_GOOD - LOOP))
        else:
            first, second = (
                test.feed(source.read(period + LOOP)),
                test.feed(source.read(LOOP_FOR_GOOD - LOOP)),
            )

        assert first is not None
        assert second is not None
        assert (first.permanent, second.permanent) == (False, True)


@pytest.mark.parametrize("period", [1, 2, 3, 7, 64, 256, 4096, 65_536])
def test_monitor_stops_loops_for_good(period: int) -> None:
    """In USB packets, a loop fails permanently within p + 1,043 samples."""
    samples = samples_to_permanent(loop(period), new_monitor(), period + LOOP_FOR_GOOD)

    assert samples is not None
    assert samples <= period + LOOP_FOR_GOOD + 63


def test_replay_of_64_bytes_fires_from_any_distance_up_to_1_mib() -> None:
    """A replay from the last 1 MiB fires by its 23rd byte, at any alignment."""
    test = RepeatTest(6.0, hash_key=KEY)
    history = bytearray(good(9).read((1 << 20) + 12_345))
    fresh = good(10)
    assert test.feed(bytes(history)) is None
    for distance in (64, 65, 95, 1000, 4096 + 17, 65_536, 500_001, (1 << 20) - 31, (1 << 20) - 1, 1 << 20):
        for shift in (0, 1, 17, 31):
            history += (gap := fresh.read(101 + shift))
            assert test.feed(gap) is None
            again = bytes(history[-distance:][:64])
            history += again
            alarm = test.feed(again[:REPLAY])
            assert alarm is not None, (distance, shift)
            assert not alarm.permanent
            test.feed(again[REPLAY:])


def test_replay_from_beyond_1_mib_is_forgotten() -> None:
    """Bytes from beyond 1 MiB are forgotten, as in the false-alarm formula."""
    assert (
        RepeatTest(6.0, hash_key=KEY).feed(replaying((1 << 20) + 70_000, (1 << 20) + 64, 64).read(1_200_000))
        is None
    )


@pytest.mark.parametrize("chunk", [64, 4096, 65_536])
def test_replay_through_the_monitor(chunk: int) -> None:
    """A replay of 64 bytes fails the block with its end, by this test only."""
    monitor, source = new_monitor(), replaying(at=100_000, distance=77_777, length=64)
    failures = []
    for at in range(0, 200_000, chunk):
        failure = failure_within(source, chunk, monitor)
        failures += [(failure.test, at + failure.position)] if failure else []

    assert [test for test, _ in failures] == ["repeat"]
    assert 100_011 <= failures[0][1] < 100_000 + REPLAY


def test_low_claims_catch_replays_of_two_windows() -> None:
    """At H = 1 a window is 65 bytes: a replay of 129 fires, 64 might not."""
    test = RepeatTest(1.0, hash_key=KEY)
    past = good(3).read(10_000)
    assert test.feed(past) is None
    assert test.cutoffs.intermittent == 65

    assert test.feed(past[1234 : 1234 + 129]) is not None


@pytest.mark.parametrize("seed", range(12))
def test_bias_of_three_quarters_is_caught_within_its_promise(seed: int) -> None:
    """p(1) = 0.75 fires within 2,048 bytes, and permanently within 2,176."""
    figures = IN_USE["biased_0.75"]

    assert failure_within(biased(0.75, seed), figures["intermittent_within_bytes"]) is not None
    source, monitor = biased(0.75, seed), new_monitor()
    assert isinstance(
        failure_within(source, figures["permanent_within_bytes"], monitor), PermanentHealthFailure
    )


@pytest.mark.parametrize("seed", range(4))
def test_bias_that_starts_later_is_caught_one_window_later(seed: int) -> None:
    """Bias that starts within a window delays the alarm by 128 bytes."""
    monitor = healthy_monitor(seed)
    source = spliced(good(seed + 50).read(77), biased(0.75, seed))
    within = 77 + 128 + IN_USE["biased_0.75"]["intermittent_within_bytes"]

    assert failure_within(source, within, monitor) is not None


@pytest.mark.slow
@pytest.mark.parametrize("p_one", [0.6, 0.4, 0.55])
def test_bias_inside_the_claim_does_not_fire(p_one: float) -> None:
    """p(1) = 0.6 is within H = 6: no alarm in 1.5 MiB."""
    monitor, source = new_monitor(), biased(p_one, seed=3)
    for _ in range(24):
        assert failure_within(source, 65_536, monitor) is None


@pytest.mark.slow
def test_good_noise_of_exactly_six_bits_does_not_fire() -> None:
    """Four MiB of 64 equally likely values raise no alarm."""
    monitor = new_monitor(NoiseClaim(6.0, bits=False))
    table = bytes(value & 0x3F for value in range(256))
    source = good(21)
    for _ in range(64):
        monitor.feed(RawBlock(source.read(65_536).translate(table)), now=0.0)

    assert monitor.failures == 0
    assert monitor.epoch == 1


def test_bits_of_a_byte_claim_need_not_keep_an_eighth_of_it() -> None:
    """The 64 bytes with the most ones meet H = 6, but not 0.75 per bit."""
    heavy = sorted(range(256), key=int.bit_count)[-64:]
    block = good(22).read(65_536).translate(bytes(heavy * 4))

    assert (
        failure_within(spliced(block, good()), len(block), new_monitor(NoiseClaim(6.0, bits=False))) is None
    )
    failure = failure_within(spliced(block, good()), len(block), new_monitor(NoiseClaim(6.0)))
    assert failure.test == "adaptive proportion"


def test_output_out_of_a_table_is_found() -> None:
    """24 bytes from 256 entries and 8 fresh bytes have 2.3 bits per byte."""
    table, fresh, choice = good(1), good(2), good(3)
    entries = [table.read(24) for _ in range(256)]
    monitor = new_monitor()
    block = b"".join(entries[choice.read(1)[0]] + fresh.read(8) for _ in range(512))
    monitor.feed(RawBlock(block[:64]), 0.0)
    with pytest.raises(HealthFailure) as caught:
        monitor.feed(RawBlock(block[64:]), 0.0)
    assert caught.value.test == "repeat"


@pytest.mark.parametrize("period", [(1 << 20) + 1, 1 << 21])
def test_a_recording_longer_than_the_reach_is_found(period: int) -> None:
    """A loop of more than 1 MiB fails permanently in its second round."""
    test, source = DistantRepeatTest(6.0, hash_key=KEY), loop(period)
    assert test.feed(source.read(period)) is None
    alarm = test.feed(source.read(period))
    assert alarm is not None
    assert alarm.permanent


def test_landmarks_of_good_noise_never_repeat() -> None:
    """A megabyte has about 16 landmarks, no alarm, and limited memory."""
    test = DistantRepeatTest(6.0, hash_key=KEY)
    assert test.feed(good(5).read(1 << 20)) is None
    assert 2 <= len(test._known) <= LANDMARKS


def test_landmarks_do_not_depend_on_how_the_stream_was_cut() -> None:
    """Blocks of any size give the same landmarks."""
    data = good(6).read(1 << 19)
    known = []
    for size in (512, 4096, 1 << 19):
        test = DistantRepeatTest(6.0, hash_key=KEY)
        for at in range(0, len(data), size):
            test.feed(data[at : at + size])
        known.append(test._known)
    assert known[0] == known[1] == known[2] != {}
