"""The permutation tests are exact, reproducible and can be stopped."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from drawwell.assess.iid import assess_iid
from drawwell.assess.iid.chi_square import chi_square_tail
from drawwell.assess.iid.permutation import permutation_tests
from drawwell.assess.iid.statistics import NAMES, statistics
from drawwell.assess.samples import parse

NOISE = np.random.Generator(np.random.PCG64(5)).integers(0, 16, 6000, dtype=np.uint8)


def test_statistics_of_a_small_example_are_those_of_the_standard():
    """The examples of SP 800-90B 5.1 hold."""
    found = statistics(np.array([2, 15, 4, 15, 9], dtype=np.uint8), binary=False, wanted=["excursion"])
    assert found["excursion"] / 5 == 7  # 5.1.1: mean 9, |2 - 9|, |17 - 18|, |21 - 27|, |36 - 36|, …
    rises = np.array([2, 2, 2, 5, 7, 7, 9, 3, 1, 4, 4], dtype=np.uint8)
    found = statistics(rises, binary=False, wanted=NAMES[1:4])
    assert found == {"numDirectionalRuns": 3, "lenDirectionalRuns": 6, "numIncreasesDecreases": 8}
    about = np.array([5, 15, 12, 1, 13, 9, 4], dtype=np.uint8)
    found = statistics(about, binary=False, wanted=NAMES[4:6])
    assert found == {"numRunsMedian": 5, "lenRunsMedian": 2}
    twice = np.array([2, 1, 1, 2, 0, 1, 0, 1, 1, 2], dtype=np.uint8)
    found = statistics(twice, binary=False, wanted=NAMES[6:9])
    assert found["avgCollision"] == pytest.approx(3)
    assert found["maxCollision"] == 4
    assert found["periodicity(1)"] == 2


def test_the_seed_decides_whatever_the_threads():
    """Equal seeds give equal counts with one or two threads; others differ."""
    alone = permutation_tests(NOISE, binary=False, seed=7, rounds=64)
    with ThreadPoolExecutor(2) as pool:
        together = permutation_tests(NOISE, binary=False, seed=7, rounds=64, mapper=pool.map)
    assert alone == together
    assert alone != permutation_tests(NOISE, binary=False, seed=8, rounds=64)


def test_related_samples_fail():
    """Sorted samples are not IID; rejecting statistics run all rounds."""
    result = permutation_tests(np.sort(NOISE), binary=False, seed=1, rounds=16)
    failed = {each.name for each in result if not each.passed}
    assert {"excursion", "covariance(1)", "compression"} <= failed
    assert all(each.more + each.same + each.less == 16 for each in result if each.name in failed)


def test_progress_can_end_it():
    """An exception from the progress callback ends the test."""

    def stop(_rounds, _undecided):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        permutation_tests(NOISE, binary=False, seed=1, progress=stop)


def test_without_permutations_nothing_is_decided():
    """Without permutation tests, good data neither pass nor fail."""
    assert assess_iid(parse(NOISE), seed=1, rounds=0).passed is None


def test_strictly_periodic_samples_fail_the_repeat_test():
    """The repeat test fails with p = 0; NIST's program aborts."""
    repeat = assess_iid(parse(np.tile(NOISE[:100], 60)), seed=1, rounds=0).longest_repeat
    assert (repeat.length, repeat.p_value, repeat.passed) == (5900, 0.0, False)
    assert -30_000 < repeat.log2_p_value < -20_000


@pytest.mark.parametrize(
    ("statistic", "degrees", "tail"),
    [(2.0, 2, math.exp(-1)), (20.0, 2, math.exp(-10)), (10.0, 4, 6 * math.exp(-5)), (0.0, 5, 1.0), (math.inf, 3, 0.0)],
)  # fmt: skip
def test_chi_square_tail_has_its_closed_forms(statistic, degrees, tail):
    """For even degrees of freedom the tail equals a finite sum."""
    assert chi_square_tail(statistic, degrees) == pytest.approx(tail, rel=1e-12)
