"""The most-common-value alarm: early, with few false alarms."""

import random
from collections import Counter
from itertools import accumulate

import pytest

from drawwell.entropy.blocks import RawBlock
from drawwell.entropy.cutoffs import critbinom
from drawwell.entropy.health import HealthMonitor, NoiseClaim
from drawwell.entropy.most_common import MostCommonValue
from drawwell.errors import HealthFailure
from drawwell.testing.sick import good

SLICE = 512
PIECE = 64
YEAR_BYTES = 64 * 1024 * 366 * 86_400


def fed(counter: MostCommonValue, samples: bytes) -> MostCommonValue:
    for at in range(0, len(samples), SLICE):
        counter.feed(samples[at : at + SLICE])
    return counter


def first_to_fire(claim: float, seed: int) -> str:
    """Return what fires first in a window; value 7 is twice too frequent."""
    chance, source = 2 ** -(claim - 1), random.Random(seed)
    weights = list(accumulate(chance if value == 7 else (1 - chance) / 255 for value in range(256)))
    monitor = HealthMonitor(NoiseClaim(claim, bits=False), hash_key=bytes(32))
    monitor.start()
    counter = monitor.most_common
    for _ in range(0, counter.window * counter.stride, PIECE):
        piece = bytes(source.choices(range(256), cum_weights=weights, k=PIECE))
        try:
            monitor.feed(RawBlock(piece), 0.0)
        except HealthFailure:
            return "test"
        if counter.raised:
            return "alarm"
    return "none"


@pytest.mark.parametrize("claim", [0.5, 1.0, 2.0, 4.0, 5.0, 6.0, 7.0, 8.0])
def test_a_year_of_good_noise_has_at_most_one_false_alarm(claim: float) -> None:
    """The false-alarm rate over a year at 64 KiB/s is at most one."""
    counter = MostCommonValue(claim)
    windows = YEAR_BYTES / (counter.stride * counter.window)
    assert counter.cutoff > critbinom(counter.window, claim, 40)
    assert 256 * 2.0**-40 * windows < 1


@pytest.mark.slow
def test_a_simulated_year_has_no_alarm() -> None:
    """The source, at 100 samples per minute, exactly meets a claim of 2 bits."""
    counter, source = MostCommonValue(2.0), random.Random(8)
    for _ in range(366 * 24):
        counter.feed(source.randbytes(6000).translate(bytes(value & 3 for value in range(256))))
    assert counter.alarms == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("claim", "runs", "share"),
    [(1, 10, 0), (2, 100, 40), (3, 100, 70), (4, 100, 90), (5, 100, 95), (6, 20, 95), (8, 5, 95)],
)
def test_it_fires_before_the_health_tests_as_often_as_stated(claim: float, runs: int, share: int) -> None:
    """The share of alarms, in percent, is the one in docs/threats.md."""
    first = Counter(first_to_fire(claim, seed) for seed in range(runs))
    assert share <= first["alarm"] * 100 / runs < share + 10
    assert first["none"] * 100 <= runs


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
