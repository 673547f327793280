"""The permutation tests of the IID track (SP 800-90B 5.1).

IID data look alike in any order. 19 statistics are computed for the original order and for
10,000 shuffled orders. If the original order is among the most extreme, the data are not IID.
As in NIST's tool, a statistic is dropped once its verdict is certain, so good data need only
dozens of rounds.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from drawwell.assess.iid.statistics import NAMES, displayed, statistics
from drawwell.reports import Report

Samples = NDArray[np.uint8]

ROUNDS: Final = 10_000  # SP 800-90B 5.1
EXTREME: Final = 5  # SP 800-90B 5.1: the data are rejected at this rank from either end
_BATCH: Final = 8  # rounds between two checks for decided statistics


@dataclass(frozen=True, slots=True)
class PermutationStatistic(Report):
    """A statistic, and how many permutations had a greater or smaller value."""

    name: str
    value: float
    more: int
    same: int
    less: int
    passed: bool


class Mapper(Protocol):
    """A ``map`` that returns results in order and may use threads."""

    def __call__(
        self, function: "Callable[[int], dict[str, int]]", arguments: Iterable[int], /
    ) -> Iterable[dict[str, int]]: ...


@dataclass(slots=True)
class _Counts:
    more: int = 0
    same: int = 0
    less: int = 0

    def add(self, sign: int) -> None:
        self.more += sign > 0
        self.same += sign == 0
        self.less += sign < 0

    @property
    def passed(self) -> bool:
        return self.more + self.same > EXTREME and self.same + self.less > EXTREME


def permutation_tests(
    samples: Samples,
    *,
    binary: bool,
    seed: int,
    rounds: int = ROUNDS,
    mapper: Mapper = map,
    progress: Callable[[int, int], None] = lambda _rounds, _undecided: None,
) -> tuple[PermutationStatistic, ...]:
    """Rank the original order of the samples among permutations.

    Args:
        samples: Shape (n,), one value each, n >= 64.
        binary: Whether the samples are bits.
        seed: Seed of the permutations; the result depends on nothing else.
        rounds: Maximum number of permutations.
        mapper: Runs the rounds of a batch; most of the work releases the GIL.
        progress: Called after each batch with the numbers of finished rounds and undecided
            statistics; may raise an exception to end the test.
    """
    own = statistics(samples, binary=binary)
    counts = {name: _Counts() for name in NAMES}
    done = 0
    while done < rounds and (undecided := [name for name in NAMES if not counts[name].passed]):
        batch = range(done, min(done + _BATCH, rounds))
        one = partial(_compare, samples, own, undecided, binary=binary, seed=seed)
        for signs in mapper(one, batch):
            for name, sign in signs.items():
                counts[name].add(sign)
        done += len(batch)
        progress(done, len(undecided))
    return _results(own, counts, len(samples))


def _compare(
    samples: Samples, own: dict[str, float], wanted: Collection[str], number: int, *, binary: bool, seed: int
) -> dict[str, int]:
    """Compare one permutation's statistics: 1 (greater), 0 (equal), -1 (less)."""
    shuffled = np.random.Generator(np.random.PCG64([seed, number])).permutation(samples)
    found = statistics(shuffled, binary=binary, wanted=wanted)
    return {name: (value > own[name]) - (value < own[name]) for name, value in found.items()}


def _results(own: dict[str, float], counts: dict[str, _Counts], n: int) -> tuple[PermutationStatistic, ...]:
    return tuple(
        PermutationStatistic(
            name=name,
            value=displayed(name, own[name], n),
            more=count.more,
            same=count.same,
            less=count.less,
            passed=count.passed,
        )
        for name, count in counts.items()
    )
