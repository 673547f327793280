"""The most-common-value alarm: early, with few false alarms."""

import random

import pytest

from drawwell.entropy.blocks import RawBlock
from drawwell.entropy.cutoffs import critbinom
from drawwell.entropy.health import HealthMonitor, NoiseClaim
from drawwell.entropy.most_common import MostCommonValue
from drawwell.testing.sick import good

SLICE = 512
YEAR_BYTES = 64 * 1024 * 366 * 86_400


def fed(counter: MostCommonValue, samples: bytes) -> MostCommonValue:
    for at in range(0, len(samples), SLICE):
        counter.feed(samples[at : at + SLICE])
    return counter


def drifting(claim: float, n: int, seed: int) -> bytes:
    """Return independent samples, the most common with probability 2^-(H-1)."""
    chance, source = 2 ** -(claim - 1), random.Random(seed)
    return bytes(7 if source.random() < chance else source.choice(OTHERS) for _ in range(n))


OTHERS = [value for value in range(256) if value != 7]


@pytest.mark.parametrize("claim", [0.5, 1.0, 2.0, 4.0, 5.0, 6.0, 7.0, 8.0])
def test_a_year_of_good_noise_has_at_most_one_false_alarm(claim: float) -> None:
    """The false-alarm rate over a year at 64 KiB/s is at most one."""
    counter = MostCommonValue(claim)
    windows = YEAR_BYTES / (counter.stride * counter.window)
    assert counter.cutoff > critbinom(counter.window, claim, 40)
    assert 256 * 2.0**-40 * windows < 1


def test_a_simulated_year_has_no_alarm() -> None:
    """The source, at 100 samples per minute, exactly meets a claim of 2 bits."""
    counter, source = MostCommonValue(2.0), random.Random(8)
    for _ in range(366 * 24):
        counter.feed(source.randbytes(6000).translate(bytes(value & 3 for value in range(256))))
    assert counter.alarms == 0


@pytest.mark.parametrize("claim", [4.0, 5.0, 6.0, 7.0, 8.0])
def test_it_fires_in_the_first_window_and_before_the_health_tests(claim: float) -> None:
    """A value twice as frequent as claimed fires it; RCT and APT still pass."""
    window = MostCommonValue(claim).window * MostCommonValue(claim).stride
    samples = drifting(claim, window, seed=int(claim))
    monitor = HealthMonitor(NoiseClaim(claim, bits=False), hash_key=bytes(32))
    monitor.start()
    at = 0
    while not monitor.most_common.raised:  # a health test that fires first would raise its error
        monitor.feed(RawBlock(samples[at : at + SLICE // 8]), 0.0)
        at += SLICE // 8
    assert monitor.most_common.alarms == 1
    assert monitor.failures == 0


def test_good_noise_is_estimated_and_raises_nothing() -> None:
    """A megabyte of good noise is estimated near 8 bits, without an alarm."""
    samples = good(3).read(1 << 20)
    for claim in (6.0, 8.0):
        counter = fed(MostCommonValue(claim), samples)
        assert (counter.alarms, counter.raised) == (0, False)
        assert 6.7 < counter.estimate < 8


def test_dependence_is_not_detected() -> None:
    """A counter has every value equally often; other tests detect it."""
    assert fed(MostCommonValue(6.0), bytes(range(256)) * 512).alarms == 0
