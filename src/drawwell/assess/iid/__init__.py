"""The IID track of SP 800-90B (3.1.3, 5): are the samples IID?

IID means independent and identically distributed. If all tests pass, the most common value
gives the min-entropy; otherwise the non-IID estimators do.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from drawwell.assess.iid.chi_square import ChiSquare, goodness_of_fit, independence
from drawwell.assess.iid.longest_repeat import LongestRepeat, longest_repeat_test
from drawwell.assess.iid.permutation import ROUNDS, Mapper, PermutationStatistic, permutation_tests
from drawwell.assess.samples import Samples, Symbols
from drawwell.reports import Report

_Z: Final = 2.5758293035489008  # SP 800-90B 6.3.1: the 0.995 quantile, as in NIST's tool


@dataclass(frozen=True, slots=True)
class IidResult(Report):
    """Result of the IID track for `n` samples of `bits` bits each.

    Min-entropy is in bits per sample; `h_bitstring` is per bit, and None for binary samples.
    If permutation tests were not run, `permutations` is empty, and `passed` is None unless
    another test failed.
    """

    n: int
    bits: int
    h_original: float
    h_bitstring: float | None
    min_entropy: float
    independence: ChiSquare
    goodness_of_fit: ChiSquare
    longest_repeat: LongestRepeat
    permutations: tuple[PermutationStatistic, ...]
    passed: bool | None


def assess_iid(
    samples: Samples,
    *,
    seed: int,
    rounds: int = ROUNDS,
    mapper: Mapper = map,
    progress: Callable[[int, int], None] = lambda _rounds, _undecided: None,
) -> IidResult:
    """Run the chi-square, longest repeated substring and permutation tests.

    Args:
        samples: From `drawwell.assess.samples.parse`.
        seed: Seed of the permutations.
        rounds: Maximum number of permutations; 0 skips these tests.
        mapper: As for `permutation_tests`.
        progress: As for `permutation_tests`.
    """
    binary = samples.symbols == 2
    chi2 = (
        independence(samples.literal, samples.symbols),
        goodness_of_fit(samples.literal, samples.symbols),
    )
    repeat = longest_repeat_test(samples.literal)
    shuffled: tuple[PermutationStatistic, ...] = ()
    if rounds:
        taken = samples.literal if binary else samples.raw
        shuffled = permutation_tests(
            taken, binary=binary, seed=seed, rounds=rounds, mapper=mapper, progress=progress
        )
    failed = not (chi2[0].passed and chi2[1].passed and repeat.passed and all(s.passed for s in shuffled))
    h_original = most_common_value(samples.literal)
    h_bits = None if binary else most_common_value(samples.bit_string)
    return IidResult(
        n=len(samples.raw),
        bits=samples.bits_per_sample,
        h_original=h_original,
        h_bitstring=h_bits,
        min_entropy=h_original if h_bits is None else min(h_original, samples.bits_per_sample * h_bits),
        independence=chi2[0],
        goodness_of_fit=chi2[1],
        longest_repeat=repeat,
        permutations=shuffled,
        passed=False if failed else (True if shuffled else None),
    )


def most_common_value(samples: Symbols) -> float:
    """Return the most common value estimate in bits per sample (6.3.1)."""
    return most_common_value_of(int(np.bincount(samples).max()) / len(samples), len(samples))


def most_common_value_of(share: float, n: int) -> float:
    """Return the estimate if the most common of `n` values has this share."""
    upper = share + _Z * math.sqrt(share * (1 - share) / max(1, n - 1))
    return -math.log2(upper) if upper < 1 else 0.0
