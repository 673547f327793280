"""Frequency of the most common value: an estimate, and an early alarm.

Samples are counted by value in windows of 128 * 2**H, in which a value of probability
2**-H comes 128 times. At claims above 5 bits every fourth slice is counted. A value
raises the alarm at a count that one of probability 2**-H reaches with 2**-38 at most:
256 values make that 2**-30 a window, which at H = 6 is one false alarm in 16 years at
64 KiB/s. A window's most common value gives the estimate of SP 800-90B 6.3.1.

Independent samples whose most common value has 2**-(H - 1) instead of 2**-H raise it in
their first window with 99 %: at H = 6 within 32,768 samples, which are 8 blocks. What
counts cannot see is dependence: a loop or a counter has every value equally often.
"""

import math
from collections import Counter
from typing import Final

from drawwell.entropy.cutoffs import critbinom
from drawwell.reports import DriftReport

ALPHA_LOG2: Final = 38
_Z: Final = 2.5758293035489008  # SP 800-90B 6.3.1: 99 % confidence, with NIST's digits


class MostCommonValue:
    """Counts the values of one source's samples.

    Args:
        min_entropy: Claimed bits of min-entropy per sample.
    """

    def __init__(self, min_entropy: float) -> None:
        self.window = 1 << 7 + max(2, math.ceil(min_entropy))
        self.stride = 4 if min_entropy > 5 else 1
        self.cutoff = min(self.window, critbinom(self.window, min_entropy, ALPHA_LOG2) + 1)
        self.estimate = 0.0
        """Bits of min-entropy a sample in the last window; 0 before the first one ended."""
        self.alarms = 0
        """How many windows raised the alarm."""
        self.raised = False
        """Did the last window raise it?"""
        self._counts: Counter[int] = Counter()
        self._counted = 0
        self._slices = 0
        self._met = False

    def feed(self, samples: bytes) -> None:
        """Count a slice, or leave it out."""
        self._slices += 1
        if self._slices % self.stride:
            return
        while samples:
            part, samples = samples[: self.window - self._counted], samples[self.window - self._counted :]
            self._counts.update(part)
            self._counted += len(part)
            self._judge(max(self._counts.values()))

    def report(self) -> DriftReport:
        """Take a snapshot."""
        return DriftReport(self.estimate, self.alarms, self.raised)

    def _judge(self, most: int) -> None:
        """Raise the alarm at once, and take it back after a window without one."""
        if most >= self.cutoff and not self._met:
            self._met = self.raised = True
            self.alarms += 1
        if self._counted < self.window:
            return
        p = most / self.window
        bound = min(1.0, p + _Z * math.sqrt(p * (1 - p) / (self.window - 1)))
        self.estimate = -math.log2(bound) or 0.0
        self.raised, self._met = self._met, False
        self._counts.clear()
        self._counted = 0
