"""The permutation tests of the IID track (SP 800-90B 5.1).

IID data look the same in any order. Each of 19 statistics is computed for the data as they came and for 10,000
shuffled orders; if the order that came is among the few most extreme, the data are not IID. A statistic is left
alone as soon as its verdict stands, as in NIST's tool, so that good data take dozens of rounds.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from drawwell.assess.iid.statistics import NAMES, displayed, statistics
from drawwell.reports import Report

Samples = NDArray[np.uint8]

ROUNDS: Final = 10_000  # SP 800-90B 5.1
EXTREME: Final = 5  # SP 800-90B 5.1: as many ranks at either end reject
_BATCH: Final = 8  # rounds between two looks at what is decided


@dataclass(frozen=True, slots=True)
class PermutationStatistic(Report):
    """One statistic: its value as the data came, and how many shuffled orders had more, the same, or less."""

    name: str
    value: float
    more: int
    same: int
    less: int
    passed: bool


class Mapper(Protocol):
    """Calls a function for each argument and gives the results in order, as ``map`` does; may use threads."""

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
    """Rank the samples among shuffled orders of themselves.

    Args:
        samples: Shape (n,), one value each, n of at least 64.
        binary: They are bits.
        seed: Decides the orders; the same seed gives the same result, whatever the mapper.
        rounds: Orders to try at most.
        mapper: What runs the rounds of a batch; bzip2, sorting and shuffling let other threads run meanwhile.
        progress: Called after each batch with the rounds done and the statistics undecided. What it raises
            ends the test.
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
    """Tell for one shuffled order whether each statistic is more (1), the same (0) or less (-1)."""
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


def rejected(results: Sequence[PermutationStatistic]) -> list[str]:
    """Return the names of the statistics that say "not IID"."""
    return [result.name for result in results if not result.passed]
