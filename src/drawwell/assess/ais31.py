"""The statistical suite of AIS 20/31, version 3.0 (2024), for a bit string.

T1 monobit and T2 poker judge 20,000 bits each, T3 and T4 are two predictors of SP 800-90B (MultiMMC 6.3.9, LZ78Y
6.3.10) on 1,000,000 bits each, which must find at least 0.95 bits of min-entropy a bit. A trial that fails may be
repeated once on fresh bits.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from drawwell.errors import BadData
from drawwell.reports import Report

Bits = NDArray[np.uint8]

SHORT_BITS: Final = 20_000
LONG_BITS: Final = 1_000_000
TRIAL_BITS: Final = 2 * SHORT_BITS + 2 * LONG_BITS
MOST_TRIALS: Final = 2
LEAST_ENTROPY: Final = 0.95  # bits of min-entropy a bit
MONOBIT: Final = (9654, 10_346)  # ones, both ends excluded
POKER: Final = (1.03, 57.4)  # both ends excluded


@dataclass(frozen=True, slots=True)
class Ais31Test(Report):
    """One test of one trial: what was found, and between which bounds it must be (both excluded, or >= low)."""

    name: str
    value: float
    low: float
    high: float | None
    passed: bool


@dataclass(frozen=True, slots=True)
class Ais31Result(Report):
    """The trials that were run, one or two, each with its tests; passed when the last one did."""

    trials: tuple[tuple[Ais31Test, ...], ...]
    passed: bool


def assess_ais31(
    bits: Bits, *, multi_mmc: Callable[[Bits], float], lz78y: Callable[[Bits], float]
) -> Ais31Result:
    """Run one trial, and a second one on fresh bits when the first fails and there are bits for it.

    Args:
        bits: Shape (n,), zeros and ones, n of at least 2,040,000.
        multi_mmc: Min-entropy a bit by the MultiMMC predictor of a vector of bits.
        lz78y: The same by the LZ78Y predictor.

    Raises:
        BadData: too few bits for a trial.
    """
    if len(bits) < TRIAL_BITS:
        raise BadData(
            f"{len(bits)} bits are too few for AIS 20/31: a trial takes {TRIAL_BITS}",
            hint="Capture 255,000 bytes for one trial, 510,000 for the two that are allowed.",
        )
    trials: list[tuple[Ais31Test, ...]] = []
    for start in range(0, min(MOST_TRIALS, len(bits) // TRIAL_BITS) * TRIAL_BITS, TRIAL_BITS):
        trials.append(_trial(bits[start : start + TRIAL_BITS], multi_mmc, lz78y))
        if all(test.passed for test in trials[-1]):
            break
    return Ais31Result(tuple(trials), all(test.passed for test in trials[-1]))


def _trial(
    bits: Bits, multi_mmc: Callable[[Bits], float], lz78y: Callable[[Bits], float]
) -> tuple[Ais31Test, ...]:
    t1, t2, t3, t4 = np.split(bits, [SHORT_BITS, 2 * SHORT_BITS, 2 * SHORT_BITS + LONG_BITS])
    return (
        _between("T1 monobit", monobit(t1), MONOBIT),
        _between("T2 poker", poker(t2), POKER),
        _entropy("T3 MultiMMC", multi_mmc(t3)),
        _entropy("T4 LZ78Y", lz78y(t4)),
    )


def monobit(bits: Bits) -> int:
    """Return the number of ones in 20,000 bits."""
    return int(np.count_nonzero(bits))


def poker(bits: Bits) -> float:
    """Return the chi-square statistic of the 5,000 four-bit words in 20,000 bits: 16/5000 sum f**2 - 5000."""
    words = np.packbits(bits)
    counts = np.bincount(words >> 4, minlength=16) + np.bincount(words & 15, minlength=16)
    n = len(bits) // 4
    return 16 * int((counts**2).sum()) / n - n


def _between(name: str, value: float, bounds: tuple[float, float]) -> Ais31Test:
    low, high = bounds
    return Ais31Test(name, value, low, high, low < value < high)


def _entropy(name: str, value: float) -> Ais31Test:
    return Ais31Test(name, value, LEAST_ENTROPY, None, value >= LEAST_ENTROPY)
