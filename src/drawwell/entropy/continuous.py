"""The continuous health tests of SP 800-90B 4.4, exact to the sample.

A test accepts samples in blocks of any size, and the size never changes a result. A sample is
a byte or a bit; of a byte's bits, the most significant one is the first sample. An open run or
window continues across blocks, failures and reconnects; only an operator's reset closes it. A
test fires when a count reaches a cutoff, once per run or window. The fast paths only check
whether a failure is possible.
"""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final

from drawwell.entropy.cutoffs import (
    INTERMITTENT_ALPHA_LOG2,
    PERMANENT_ALPHA_LOG2,
    apt_cutoff,
    rct_cutoff,
)
from drawwell.reports import HealthTestReport


@dataclass(frozen=True, slots=True)
class Cutoffs:
    """The two counts at which a test fires."""

    intermittent: int
    permanent: int

    def crossed(self, before: int, after: int) -> int:
        """Return the highest cutoff c with `before` < c <= `after`, or 0."""
        if before < self.permanent <= after:
            return self.permanent
        return self.intermittent if before < self.intermittent <= after else 0


@dataclass(frozen=True, slots=True)
class Alarm:
    """A sample that reached a cutoff, at 0-based `position` in its block."""

    cutoff: int
    position: int
    permanent: bool

    def or_worse(self, other: "Alarm | None") -> "Alarm":
        """Return `other` if it is permanent and `self` is not, else `self`."""
        return other if other and other.permanent and not self.permanent else self


class HealthTest(ABC):
    """One test of one source.

    Args:
        min_entropy: Claimed bits of min-entropy per sample.
        unit: The sample, "byte" or "bit".
        window: Samples per window, or 0 for a test without windows.
        cutoffs: The counts at which the test fires.
    """

    name: str

    def __init__(self, min_entropy: float, unit: str, window: int, cutoffs: Cutoffs) -> None:
        self.min_entropy = min_entropy
        self.unit = unit
        self.per_byte = 8 if unit == "bit" else 1
        """Samples per byte."""
        self.window = window
        self.cutoffs = cutoffs
        self.worst = 0
        """The highest count in the current minute."""
        self._last_minute = self._earlier = 0
        self.failures = 0

    def feed(self, samples: bytes) -> Alarm | None:
        """Test a block; return the first permanent alarm, else the first alarm.

        The alarm's position counts samples, which are single bits in a bit test.
        """
        alarm = self._examine(samples) if samples else None
        self.failures += alarm is not None
        return alarm

    def begin_minute(self) -> None:
        """Reset the highest count for a new minute."""
        self._earlier = max(self._earlier, self.worst)
        self._last_minute, self.worst = self.worst, 0

    @abstractmethod
    def _examine(self, samples: bytes) -> Alarm | None:
        """Test a block of at least one sample."""

    @abstractmethod
    def forget(self) -> None:
        """Close the open run or window after the source was repaired."""

    @abstractmethod
    def describe(self, count: int) -> str:
        """Describe a count of this test."""

    def report(self) -> HealthTestReport:
        return HealthTestReport(
            name=self.name,
            unit=self.unit,
            min_entropy=self.min_entropy,
            window=self.window,
            cutoff_intermittent=self.cutoffs.intermittent,
            cutoff_permanent=self.cutoffs.permanent,
            worst_count=max(self._earlier, self.worst),
            failures=self.failures,
            recent_count=max(self._last_minute, self.worst),
        )

    def _alarm(self, cutoff: int, position: int) -> Alarm:
        return Alarm(cutoff, position, permanent=cutoff == self.cutoffs.permanent)


class RepetitionCountTest(HealthTest):
    """A test for *cutoff* equal samples in a row (SP 800-90B 4.4.1)."""

    name: Final = "repetition count"

    def __init__(self, min_entropy: float, unit: str) -> None:
        cutoffs = Cutoffs(
            rct_cutoff(min_entropy, INTERMITTENT_ALPHA_LOG2), rct_cutoff(min_entropy, PERMANENT_ALPHA_LOG2)
        )
        super().__init__(min_entropy, unit, 0, cutoffs)
        self._open = b""  # the open run, up to the permanent cutoff

    def _examine(self, samples: bytes) -> Alarm | None:
        before = len(self._open)
        stream = self._open + samples
        self.worst = max(self.worst, 1)
        alarm = None
        for start, length in _runs(stream, longer_than=min(self.worst, self.cutoffs.intermittent - 1)):
            self.worst = max(self.worst, min(length, self.cutoffs.permanent))
            cutoff = self.cutoffs.crossed(before if start == 0 else 0, length)
            if cutoff:
                found = self._alarm(cutoff, start + cutoff - 1 - before)
                alarm = alarm.or_worse(found) if alarm else found
        last = stream[-1:]
        run = len(stream) - len(stream.rstrip(last))
        self._open = last * min(run, self.cutoffs.permanent)
        return alarm

    def forget(self) -> None:
        self._open = b""

    def describe(self, count: int) -> str:
        return f"{count} equal {self.unit}s in a row"


class BitRepetitionCountTest(RepetitionCountTest):
    """The repetition count test on bits, of which each has H/8."""

    def __init__(self, min_entropy: float) -> None:
        super().__init__(min_entropy, "bit")

    def _examine(self, samples: bytes) -> Alarm | None:
        self.worst = max(self.worst, 1)
        number = int.from_bytes(samples, "big")
        if self._open:
            number |= int(self._open, 2) << 8 * len(samples)
        width = len(self._open) + 8 * len(samples)
        if _has_run(number, width, longer_than=min(self.worst, self.cutoffs.intermittent - 1)):
            return super()._examine(bits_of(samples))
        steps = number ^ (number >> 1)
        self._open = b"%d" % (number & 1) * ((steps & -steps).bit_length() or width)
        return None


class AdaptiveProportionTest(HealthTest):
    """A test for *cutoff* samples like a window's first (SP 800-90B 4.4.2)."""

    name: Final = "adaptive proportion"

    def __init__(self, min_entropy: float, unit: str, window: int) -> None:
        cutoffs = Cutoffs(
            apt_cutoff(min_entropy, INTERMITTENT_ALPHA_LOG2, window),
            apt_cutoff(min_entropy, PERMANENT_ALPHA_LOG2, window),
        )
        super().__init__(min_entropy, unit, window, cutoffs)
        self._value = b""  # the value counted in the open window
        self._count = 0
        self._left = 0  # bytes to the end of the open window

    def _examine(self, samples: bytes) -> Alarm | None:
        alarm, at = None, 0
        while at < len(samples):
            if not self._left:
                self._begin(samples[at])
            part = samples[at : at + self._left]
            before, self._count = self._count, self._count + self._count_in(part)
            self.worst = max(self.worst, self._count)
            if cutoff := self.cutoffs.crossed(before, self._count):
                found = self._alarm(cutoff, self._locate(part, at, cutoff - before))
                alarm = alarm.or_worse(found) if alarm else found
            self._left -= len(part)
            at += len(part)
        return alarm

    def forget(self) -> None:
        self._left = 0

    def describe(self, count: int) -> str:
        return f"{count} equal {self.unit}s in a window of {self.window}"

    def _begin(self, first: int) -> None:
        """Open a window whose first byte is `first`."""
        self._value, self._count, self._left = bytes([first]), 0, self.window

    def _count_in(self, part: bytes) -> int:
        """Return how many samples in a part of the window equal its first sample."""
        return part.count(self._value)

    def _locate(self, part: bytes, at: int, nth: int) -> int:
        """Return the position in the block of the nth counted sample of `part`."""
        return at + _find_nth(part, self._value, nth)


class BitProportionTest(AdaptiveProportionTest):
    """The adaptive proportion test, applied to bits in windows of whole bytes."""

    def __init__(self, min_entropy: float, window: int) -> None:
        super().__init__(min_entropy, "bit", window)

    def _begin(self, first: int) -> None:
        self._value, self._count, self._left = b"%d" % (first >> 7), 0, self.window // 8

    def _count_in(self, part: bytes) -> int:
        ones = int.from_bytes(part, "big").bit_count()
        return ones if self._value == b"1" else 8 * len(part) - ones

    def _locate(self, part: bytes, at: int, nth: int) -> int:
        return 8 * at + _find_nth(bits_of(part), self._value, nth)


def bits_of(data: bytes) -> bytes:
    """Unpack each bit to a byte b"0" or b"1", most significant bit first."""
    return f"{int.from_bytes(data, 'big'):0{8 * len(data)}b}".encode() if data else b""


def _has_run(number: int, width: int, *, longer_than: int) -> bool:
    """Return whether the bits contain a run longer than `longer_than`."""
    equal = (number ^ (number >> 1)) ^ ((1 << width) - 1)  # a bit is 1 if it equals the previous bit
    equal &= (1 << width - 1) - 1  # the first bit has no previous bit
    have = 1  # the length of the run of ones that each bit of `equal` stands for
    while equal and have < longer_than:
        step = min(have, longer_than - have)
        equal &= equal >> step
        have += step
    return equal != 0


def _runs(samples: bytes, *, longer_than: int) -> list[tuple[int, int]]:
    """Return start and length of each run longer than `longer_than` samples."""
    number = int.from_bytes(samples, "big")
    steps = (number ^ (number >> 8)).to_bytes(len(samples), "big")  # 0 where a sample equals the one before
    if steps.find(bytes(longer_than), 1) < 0:
        return []
    runs = re.compile(rb"\0{%d,}" % longer_than).finditer(steps, 1)
    return [(run.start() - 1, run.end() - run.start() + 1) for run in runs]


def _find_nth(samples: bytes, value: bytes, nth: int) -> int:
    """Return the index of the nth sample equal to `value`, which must exist."""
    at = -1
    for _ in range(nth):
        at = samples.index(value, at + 1)
    return at
