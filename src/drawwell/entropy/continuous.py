"""The continuous health tests of SP 800-90B 4.4, exact to the sample and a block at a time.

A test takes a source's samples as bytes, one byte a sample (`bits_of` unpacks bits), in blocks of any size;
how the stream was cut never changes what it finds. A run and a window stay open from block to block, over a
failure and over a reconnect; only an operator's reset closes them. A cutoff fires when a count reaches it:
once, and not again while the same run or window goes on. The fast paths only ask whether anything can be there.
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
        """Return the highest cutoff that a count meets on its way from `before` to `after`, 0 for none."""
        if before < self.permanent <= after:
            return self.permanent
        return self.intermittent if before < self.intermittent <= after else 0


@dataclass(frozen=True, slots=True)
class Alarm:
    """A cutoff was met by the sample at `position` of its block, 0-based."""

    cutoff: int
    position: int
    permanent: bool

    def or_worse(self, other: "Alarm | None") -> "Alarm":
        """Return `other` when it is permanent and this is not: the first one of the worst kind stands."""
        return other if other and other.permanent and not self.permanent else self


class HealthTest(ABC):
    """One test of one source.

    Args:
        min_entropy: Claimed bits of min-entropy per sample.
        unit: What a sample is, "byte" or "bit".
        window: Samples in a window, 0 for a test without one.
        cutoffs: Where it fires.
    """

    name: str

    def __init__(self, min_entropy: float, unit: str, window: int, cutoffs: Cutoffs) -> None:
        self.min_entropy = min_entropy
        self.unit = unit
        self.window = window
        self.cutoffs = cutoffs
        self.worst = 0
        """The highest count of this minute."""
        self._last_minute = self._earlier = 0
        self.failures = 0

    def feed(self, samples: bytes) -> Alarm | None:
        """Judge the whole block; return the first alarm of the worst kind in it."""
        alarm = self._examine(samples) if samples else None
        self.failures += alarm is not None
        return alarm

    def begin_minute(self) -> None:
        """Count the worst from here on."""
        self._earlier = max(self._earlier, self.worst)
        self._last_minute, self.worst = self.worst, 0

    @abstractmethod
    def _examine(self, samples: bytes) -> Alarm | None:
        """Judge a block of at least one sample."""

    @abstractmethod
    def forget(self) -> None:
        """Close the open run or window: the operator says that the source was mended."""

    @abstractmethod
    def describe(self, count: int) -> str:
        """Say what a count of this test means."""

    def report(self) -> HealthTestReport:
        """Take a snapshot."""
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
    """Fires when one value comes *cutoff* times in a row (SP 800-90B 4.4.1)."""

    name: Final = "repetition count"

    def __init__(self, min_entropy: float, unit: str) -> None:
        cutoffs = Cutoffs(
            rct_cutoff(min_entropy, INTERMITTENT_ALPHA_LOG2), rct_cutoff(min_entropy, PERMANENT_ALPHA_LOG2)
        )
        super().__init__(min_entropy, unit, 0, cutoffs)
        self._open = b""  # the open run; what is beyond the permanent cutoff is not counted

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


class AdaptiveProportionTest(HealthTest):
    """Fires when the first value of a window makes up *cutoff* of its samples (SP 800-90B 4.4.2)."""

    name: Final = "adaptive proportion"

    def __init__(self, min_entropy: float, unit: str, window: int) -> None:
        cutoffs = Cutoffs(
            apt_cutoff(min_entropy, INTERMITTENT_ALPHA_LOG2, window),
            apt_cutoff(min_entropy, PERMANENT_ALPHA_LOG2, window),
        )
        super().__init__(min_entropy, unit, window, cutoffs)
        self._value = b""  # what is counted in the open window
        self._count = 0
        self._left = 0  # samples to the end of the open window

    def _examine(self, samples: bytes) -> Alarm | None:
        alarm, at = None, 0
        while at < len(samples):
            if not self._left:
                self._value, self._count, self._left = samples[at : at + 1], 0, self.window
            end = min(at + self._left, len(samples))
            before, self._count = self._count, self._count + samples.count(self._value, at, end)
            self.worst = max(self.worst, self._count)
            cutoff = self.cutoffs.crossed(before, self._count)
            if cutoff:
                found = self._alarm(cutoff, _locate(samples, self._value, at, cutoff - before))
                alarm = alarm.or_worse(found) if alarm else found
            self._left -= end - at
            at = end
        return alarm

    def forget(self) -> None:
        self._left = 0

    def describe(self, count: int) -> str:
        return f"{count} equal {self.unit}s in a window of {self.window}"


def bits_of(data: bytes) -> bytes:
    """Unpack bytes to one byte a bit, b"0" or b"1", most significant bit first."""
    return f"{int.from_bytes(data, 'big'):0{8 * len(data)}b}".encode() if data else b""


def _runs(samples: bytes, *, longer_than: int) -> list[tuple[int, int]]:
    """Return start and length of the runs of equal samples that are longer than `longer_than`, in order."""
    number = int.from_bytes(samples, "big")
    steps = (number ^ (number >> 8)).to_bytes(len(samples), "big")  # steps[i] is 0 where i equals i - 1
    if steps.find(bytes(longer_than), 1) < 0:
        return []
    runs = re.compile(rb"\0{%d,}" % longer_than).finditer(steps, 1)
    return [(run.start() - 1, run.end() - run.start() + 1) for run in runs]


def _locate(samples: bytes, value: bytes, start: int, nth: int) -> int:
    """Return the index of the nth sample of `value` at or after `start`; the caller knows that it is there."""
    at = start - 1
    for _ in range(nth):
        at = samples.index(value, at + 1)
    return at
