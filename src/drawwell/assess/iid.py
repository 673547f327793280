"""The IID track of SP 800-90B (3.1.3, 5): may the samples be taken for independent and identically distributed?

If so, the most common value says how much min-entropy a sample has. One failed test and the answer is no; then
the non-IID estimators decide.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from drawwell.assess.iid_chi2 import ChiSquare, goodness_of_fit, independence
from drawwell.assess.iid_lrs import LongestRepeat, longest_repeat_test
from drawwell.assess.iid_permutation import ROUNDS, Mapper, PermutationStatistic, permutation_tests
from drawwell.reports import Report

Samples = NDArray[np.uint8]

FEWEST: Final = 1000
"""Below this no chi-square test of the track has bins enough to say anything."""
_Z: Final = 2.5758293035489008  # SP 800-90B 6.3.1: the 0.995 quantile, as NIST's tool has it


@dataclass(frozen=True, slots=True)
class IidResult(Report):
    """What the IID track says of `n` samples of `bits` bits each; min-entropy is in bits a sample.

    `h_bitstring` is per bit, None for binary samples. `permutations` is empty when they were not run; `passed` is
    None then, unless another test failed already.
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
    bits: int,
    seed: int,
    rounds: int = ROUNDS,
    mapper: Mapper = map,
    progress: Callable[[int, int], None] = lambda _rounds, _undecided: None,
) -> IidResult:
    """Run the IID track: the chi-square tests, the longest repeated substring, and last the permutations.

    Args:
        samples: Shape (n,), one sample a value.
        bits: Width of a sample, 1 to 8.
        seed: Decides the shuffled orders.
        rounds: Shuffled orders at most; 0 leaves the permutation tests out.
        mapper: As for `permutation_tests`.
        progress: As for `permutation_tests`.

    Raises:
        ValueError: fewer than 1,000 samples, a value wider than `bits`, or one value only.
    """
    values, dense = _checked(samples, bits)
    binary = len(values) == 2
    chi2 = independence(dense, len(values)), goodness_of_fit(dense, len(values))
    repeat = longest_repeat_test(dense)
    shuffled: tuple[PermutationStatistic, ...] = ()
    if rounds:
        taken = dense if binary else samples
        shuffled = permutation_tests(
            taken, binary=binary, seed=seed, rounds=rounds, mapper=mapper, progress=progress
        )
    failed = not (chi2[0].passed and chi2[1].passed and repeat.passed and all(s.passed for s in shuffled))
    h_original = most_common_value(dense)
    h_bits = None if binary else most_common_value(bits_of_samples(samples, bits))
    return IidResult(
        n=len(samples),
        bits=bits,
        h_original=h_original,
        h_bitstring=h_bits,
        min_entropy=h_original if h_bits is None else min(h_original, bits * h_bits),
        independence=chi2[0],
        goodness_of_fit=chi2[1],
        longest_repeat=repeat,
        permutations=shuffled,
        passed=False if failed else (True if shuffled else None),
    )


def most_common_value(samples: Samples) -> float:
    """Return the most common value estimate in bits a sample (SP 800-90B 6.3.1)."""
    n = len(samples)
    p = int(np.bincount(samples).max()) / n
    return max(0.0, -math.log2(min(1.0, p + _Z * math.sqrt(p * (1 - p) / (n - 1)))))


def bits_of_samples(samples: Samples, bits: int) -> Samples:
    """Unpack samples to bits, the most significant first; shape (bits * n,)."""
    unpacked: Samples = np.unpackbits(samples[:, None], axis=1)[:, 8 - bits :].reshape(-1)
    return unpacked


def _checked(samples: Samples, bits: int) -> tuple[NDArray[np.uint8], Samples]:
    """Return the values that occur, and the samples numbered by them."""
    if len(samples) < FEWEST:
        raise ValueError(f"{len(samples)} samples are too few for the IID tests: they need {FEWEST}")
    if int(samples.max()) >> bits:
        raise ValueError(f"a sample of value {int(samples.max())} is wider than {bits} bits")
    present = np.flatnonzero(np.bincount(samples, minlength=256))
    if len(present) < 2:
        raise ValueError("every sample has the same value")
    number = np.zeros(256, dtype=np.uint8)
    number[present] = np.arange(len(present))
    return present.astype(np.uint8), number[samples]
