"""The statistical suite of AIS 20/31, version 3.0 (2024), for bits.

T1 (monobit) and T2 (poker) each test 20,000 bits. T3 and T4 are two predictors of SP 800-90B
(MultiMMC 6.3.9, LZ78Y 6.3.10) on 1,000,000 bits each; both must estimate at least 0.95 bits of
min-entropy per bit. A failed trial may be repeated once with fresh bits.
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
LEAST_ENTROPY: Final = 0.95  # bits of min-entropy per bit
MONOBIT: Final = (9654, 10_346)  # ones, both ends excluded
POKER: Final = (1.03, 57.4)  # both ends excluded


@dataclass(frozen=True, slots=True)
class Ais31Test(Report):
    """One test in one trial; bounds are exclusive, except a sole lower bound."""

    name: str
    value: float
    low: float
    high: float | None
    passed: bool


@dataclass(frozen=True, slots=True)
class Ais31Result(Report):
    """One or two trials with their tests; the last trial decides."""

    trials: tuple[tuple[Ais31Test, ...], ...]
    passed: bool


def assess_ais31(
    bits: Bits, *, multi_mmc: Callable[[Bits], float], lz78y: Callable[[Bits], float]
) -> Ais31Result:
    """Run one trial, and a second one with fresh bits if the first fails.

    Args:
        bits: Zeros and ones, shape (n,). One trial uses 2,040,000 bits; a second one requires
            twice as many.
        multi_mmc: Returns the min-entropy per bit of a bit vector, by the MultiMMC predictor.
        lz78y: Like `multi_mmc`, but by the LZ78Y predictor.

    Raises:
        BadData: there are too few bits for one trial.
    """
    if len(bits) < TRIAL_BITS:
        raise BadData(
            f"{len(bits)} bits are too few for AIS 20/31: a trial needs {TRIAL_BITS}",
            hint="Capture 255,000 bytes for one trial, or 510,000 bytes for two.",
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
    """Count the ones in 20,000 bits."""
    return int(np.count_nonzero(bits))


def poker(bits: Bits) -> float:
    """Return T2's chi-square over 5,000 4-bit words: 16/5000 sum f**2 - 5000."""
    packed = np.packbits(bits)
    counts = np.bincount(packed >> 4, minlength=16) + np.bincount(packed & 15, minlength=16)
    n = len(bits) // 4
    return 16 * int((counts**2).sum()) / n - n


def _between(name: str, value: float, bounds: tuple[float, float]) -> Ais31Test:
    low, high = bounds
    return Ais31Test(name, value, low, high, low < value < high)


def _entropy(name: str, value: float) -> Ais31Test:
    return Ais31Test(name, value, LEAST_ENTROPY, None, value >= LEAST_ENTROPY)
