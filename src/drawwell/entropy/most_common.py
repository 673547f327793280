"""Frequency of the most common value: an estimate and an early alarm.

Samples are counted by value in windows of 128 * 2**H, so a value of probability 2**-H occurs
128 times on average. For claims above 5 bits only every fourth slice is counted. The alarm is
raised at a count that a value of probability 2**-H reaches with probability 2**-40 at most;
with 256 values that is 2**-32 per window. A rate of 64 KiB/s fills at most 2**32 windows of
2**9 samples in a year. So there is at most one false alarm a year for any H. The most common
value of a window gives the estimate of SP 800-90B 6.3.1.

If the samples are independent and the most common value has probability 2**-(H - 1), the alarm
is raised in the first window 99 % of the time: for H = 6, within 32,768 samples (8 blocks).
For H = 5 or more, at least 95 % of runs raise the alarm before RCT or APT fires. For lower
claims these tests fire early too, so the alarm is first less often: in 90 % of runs for H = 4,
70 % for 3, 40 % for 2. For H = 1 such samples are constant, so RCT is always first.
Counts cannot detect dependence: in a loop or a counter, every value is equally frequent.
"""

import math
from collections import Counter
from typing import Final

from drawwell.entropy.cutoffs import critbinom
from drawwell.reports import DriftReport

ALPHA_LOG2: Final = 40
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
        """Bits of min-entropy per sample in the last full window, 0 before the first."""
        self.alarms = 0
        """The number of windows with an alarm."""
        self.raised = False
        """Whether the last window raised the alarm."""
        self._counts: Counter[int] = Counter()
        self._counted = 0
        self._slices = 0
        self._met = False

    def feed(self, samples: bytes) -> None:
        """Count a slice of samples, or skip it."""
        self._slices += 1
        if self._slices % self.stride:
            return
        while samples:
            part, samples = samples[: self.window - self._counted], samples[self.window - self._counted :]
            self._counts.update(part)
            self._counted += len(part)
            self._judge(max(self._counts.values()))

    def report(self) -> DriftReport:
        return DriftReport(self.estimate, self.alarms, self.raised)

    def _judge(self, most: int) -> None:
        """Raise an alarm immediately; clear it after a window without an alarm."""
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
