"""Longest repeated substring test (SP 800-90B 5.2.5), in logarithms.

For strictly periodic data, the collision probability is below the floating-point range. NIST's
tool aborts on such data. With logarithms, such data fail the test, as they should.
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
    """The longest repeated substring in samples, and its p-value for IID data.

    `collision` is the probability that two samples are equal. `log2_p_value` shows the size
    even of a p-value that is rounded to 0.
    """

    length: int
    collision: float
    p_value: float
    log2_p_value: float

    @property
    def passed(self) -> bool:
        """Whether IID data can explain the length."""
        return self.p_value >= REJECT_BELOW


def longest_repeat_test(samples: Samples) -> LongestRepeat:
    """Test the longest repeated substring of `samples`, shape (n,), n >= 2.

    W is its length. Among N = C(n - W + 1, 2) pairs of substrings of this length, at least one
    pair is equal with probability 1 - (1 - P_col**W)**N.
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
    """Return the length of the longest repeat, including overlaps; 0 for none."""
    return int(lcp_array(samples, suffix_array(samples)).max())
