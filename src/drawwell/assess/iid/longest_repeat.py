"""The longest repeated substring test of the IID track (SP 800-90B 5.2.5), in logarithms.

On strictly periodic data the chance of a collision is below what any floating-point number holds (NIST's tool
aborts there). A logarithm holds it, and the test then fails as it should.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from drawwell.assess.suffix import lcp_array, suffix_array
from drawwell.reports import Report

Samples = NDArray[np.uint8]

REJECT_BELOW: Final = 0.001  # SP 800-90B 5.2.5


@dataclass(frozen=True, slots=True)
class LongestRepeat(Report):
    """The longest repeated substring: its length in samples, and how likely IID data have one as long.

    `collision` is the chance that two samples are equal. `log2_p_value` tells a p-value of 0 from a small one.
    """

    length: int
    collision: float
    p_value: float
    log2_p_value: float

    @property
    def passed(self) -> bool:
        """Is it within what chance does?"""
        return self.p_value >= REJECT_BELOW


def longest_repeat_test(samples: Samples) -> LongestRepeat:
    """Judge the longest repeated substring of `samples`, shape (n,), n of at least 2.

    The chance of at least one among N = C(n - W + 1, 2) pairs: 1 - (1 - P_col**W)**N.
    """
    n = len(samples)
    collision = float(((np.bincount(samples) / n) ** 2).sum())
    width = longest_repeat(samples)
    positions = n - width + 1
    pairs = positions * (positions - 1) // 2
    log_each = width * math.log(collision)  # ln P_col**W
    each = math.exp(log_each)
    if each == 1:
        return LongestRepeat(width, collision, 1.0, 0.0)
    p_value = -math.expm1(pairs * math.log1p(-each))
    log_p = math.log(p_value) if p_value > 0 else log_each + math.log(pairs)
    return LongestRepeat(width, collision, p_value, log_p / math.log(2))


def longest_repeat(samples: Samples) -> int:
    """Return the length of the longest substring that comes twice, overlapping or not; 0 when no symbol does."""
    return int(lcp_array(samples, suffix_array(samples)).max())
