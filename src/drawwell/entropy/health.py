"""The health of one source: start-up, continuous and on-demand tests, and the states between them.

Laws:

1. A block is judged whole before a byte of it is returned; of a failing block nothing ever is.
2. Start-up samples are never used, and after an intermittent failure the start-up tests run again.
3. An intermittent failure is one in 2**30 for a source that keeps its claim; the third within ten minutes is
   permanent. A permanent failure is one in 2**60, and latched until an operator's reset.
4. `start` and `stop` forget nothing: runs, windows, known repeats and past failures outlive every reconnect.
5. The on-demand test is `start` while healthy.

The moves between the states stand in `MOVES` and nowhere else.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from typing import Final

from drawwell.entropy.blocks import RawBlock, TestedBlock
from drawwell.entropy.continuous import (
    AdaptiveProportionTest,
    Alarm,
    HealthTest,
    RepetitionCountTest,
    bits_of,
)
from drawwell.entropy.cutoffs import BIT_WINDOW, BYTE_WINDOW, STARTUP_SAMPLES, exact
from drawwell.entropy.landmarks import DistantRepeatTest
from drawwell.entropy.most_common import MostCommonValue
from drawwell.entropy.repeat import RepeatTest
from drawwell.errors import HealthFailure, IntermittentHealthFailure, PermanentHealthFailure
from drawwell.reports import HealthTestReport, SourceState
from drawwell.units import Bits

FAILURES_TO_PERMANENT: Final = 3
FAILURE_MEMORY_S: Final = 600.0  # three of 2**-30 in ten minutes are no chance
MINUTE_S: Final = 60.0

_INTERMITTENT_HINT: Final = (
    "The block was discarded and the start-up tests run again; "
    "a third failure in ten minutes stops the source for good."
)
_PERMANENT_HINT: Final = "Look after the device, then let it start again with `drawwell source reset`."


class Event(Enum):
    """What can happen to a source."""

    START = auto()
    STOP = auto()
    PASSED = auto()
    """The start-up tests passed."""
    INTERMITTENT = auto()
    PERMANENT = auto()
    RESET = auto()
    """An operator says that it was mended."""


_S, _E = SourceState, Event

MOVES: Final[dict[tuple[SourceState, Event], SourceState]] = {
    (_S.OFF, _E.START): _S.STARTING,
    (_S.OFF, _E.STOP): _S.OFF,
    (_S.OFF, _E.PERMANENT): _S.PERMANENT_FAILURE,
    (_S.OFF, _E.RESET): _S.OFF,
    (_S.STARTING, _E.START): _S.STARTING,
    (_S.STARTING, _E.STOP): _S.OFF,
    (_S.STARTING, _E.PASSED): _S.HEALTHY,
    (_S.STARTING, _E.INTERMITTENT): _S.INTERMITTENT_FAILURE,
    (_S.STARTING, _E.PERMANENT): _S.PERMANENT_FAILURE,
    (_S.STARTING, _E.RESET): _S.STARTING,
    (_S.HEALTHY, _E.START): _S.STARTING,
    (_S.HEALTHY, _E.STOP): _S.OFF,
    (_S.HEALTHY, _E.INTERMITTENT): _S.INTERMITTENT_FAILURE,
    (_S.HEALTHY, _E.PERMANENT): _S.PERMANENT_FAILURE,
    (_S.HEALTHY, _E.RESET): _S.HEALTHY,
    (_S.INTERMITTENT_FAILURE, _E.START): _S.STARTING,
    (_S.INTERMITTENT_FAILURE, _E.STOP): _S.OFF,
    (_S.INTERMITTENT_FAILURE, _E.PASSED): _S.HEALTHY,
    (_S.INTERMITTENT_FAILURE, _E.INTERMITTENT): _S.INTERMITTENT_FAILURE,
    (_S.INTERMITTENT_FAILURE, _E.PERMANENT): _S.PERMANENT_FAILURE,
    (_S.INTERMITTENT_FAILURE, _E.RESET): _S.INTERMITTENT_FAILURE,
    (_S.PERMANENT_FAILURE, _E.START): _S.PERMANENT_FAILURE,
    (_S.PERMANENT_FAILURE, _E.STOP): _S.PERMANENT_FAILURE,
    (_S.PERMANENT_FAILURE, _E.RESET): _S.OFF,
}


@dataclass(frozen=True, slots=True)
class NoiseClaim:
    """What the owner stands for about a source's raw samples, one byte each.

    Args:
        min_entropy: Bits of min-entropy per byte, above 0 and at most 8.
        bits: The claim holds for every bit too, at an eighth: true of a source that packs one-bit samples,
            false of one that digitises to more bits than carry noise.

    Raises:
        ValueError: min-entropy out of range.
    """

    min_entropy: float = 6.0
    bits: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.min_entropy <= 8:
            raise ValueError(f"min-entropy of {self.min_entropy} bits a byte is not above 0 and at most 8")

    def assessed(self, n_bytes: int) -> Bits:
        """Min-entropy of so many samples, rounded down."""
        bits = exact(self.min_entropy)
        return Bits(bits.numerator * n_bytes // bits.denominator)


class HealthMonitor:
    """Runs every test that a claim asks for on one source, and keeps its state.

    Args:
        claim: What is claimed of the samples.
        hash_key: 16 to 64 secret bytes for the repeat test's hashes, of this monitor alone.
    """

    def __init__(self, claim: NoiseClaim, *, hash_key: bytes) -> None:
        self.state = SourceState.OFF
        self.epoch = 0
        self.failures = 0
        self._claim = claim
        self._byte_tests, self._bit_tests = tests_of(claim, hash_key)
        self.most_common = MostCommonValue(claim.min_entropy)
        self.startup_bytes = 0
        """Samples of the start-up tests that run now, of `STARTUP_SAMPLES`."""
        self._startup_at = 0.0
        self._minute_at = 0.0
        self._intermittent_at: deque[float] = deque(maxlen=FAILURES_TO_PERMANENT)
        self._latched: Callable[[], HealthFailure] | None = None

    def start(self) -> None:
        """Begin the start-up tests, at every opening of the source or on demand; a latched failure stays."""
        self._move(Event.START)

    def stop(self) -> None:
        """Say that the source was closed."""
        self._move(Event.STOP)

    def reset(self) -> None:
        """Take the operator's word that a permanent failure was mended: the source is off and may start."""
        if self._latched:
            self._latched = None
            self._intermittent_at.clear()
            for test in self._all_tests():
                test.forget()
        self._move(Event.RESET)

    def feed(self, block: RawBlock, now: float) -> TestedBlock | None:
        """Judge a block; return it with its assessed min-entropy, None while the start-up tests run.

        `now` is in seconds on a clock that never steps back.

        Raises:
            IntermittentHealthFailure: a test fired; the block is void and the next ones start up again.
            PermanentHealthFailure: a test fired for good, now or before.
        """
        assert self.state is not SourceState.OFF, "no block comes from a closed source"  # noqa: S101
        if self._latched:
            raise self._latched()
        if now - self._minute_at >= MINUTE_S:
            self._minute_at = now
            for test in self._all_tests():
                test.begin_minute()
        self.most_common.feed(block.data)
        found = self._judge(block.data)
        if found:
            raise self._fail(*found, now)
        if self.state is SourceState.HEALTHY:
            return TestedBlock(block.data, self._claim.assessed(len(block)))
        self._startup_at = self._startup_at if self.startup_bytes else now
        self.startup_bytes += len(block)
        if self.startup_bytes >= STARTUP_SAMPLES:
            self._move(Event.PASSED)
            self.epoch += 1
        return None

    def startup_left_s(self, now: float) -> float:
        """Estimate how long the start-up tests still take at this rate; 0 where they do not run."""
        if not self.startup_bytes:
            return 0.0
        return (STARTUP_SAMPLES - self.startup_bytes) * (now - self._startup_at) / self.startup_bytes

    def condemn(self, what: str) -> None:
        """Latch a failure that only a comparison with another source could find."""
        if self._latched is None:
            self.failures += 1
            self._move(Event.PERMANENT)
            self._latched = partial(
                PermanentHealthFailure, what, test="twin", count=1, cutoff=1, position=0, hint=_PERMANENT_HINT
            )

    def reports(self) -> tuple[HealthTestReport, ...]:
        """Take a snapshot of every test, with its worst counts."""
        return tuple(test.report() for test in self._all_tests())

    def _all_tests(self) -> tuple[HealthTest, ...]:
        return self._byte_tests + self._bit_tests

    def _move(self, event: Event) -> None:
        self.state = MOVES[self.state, event]
        self.startup_bytes = 0

    def _judge(self, data: bytes) -> tuple[HealthTest, Alarm] | None:
        """Run every test over the whole block; return the worst alarm, the earliest of several."""
        found = [(test, test.feed(data), 1) for test in self._byte_tests]
        if self._bit_tests:
            bits = bits_of(data)
            found += [(test, test.feed(bits), 8) for test in self._bit_tests]
        alarms = [
            (not alarm.permanent, alarm.position // per_byte, test, alarm)
            for test, alarm, per_byte in found
            if alarm
        ]
        if not alarms:
            return None
        *_, test, alarm = min(alarms, key=lambda entry: entry[:2])
        return test, alarm

    def _fail(self, test: HealthTest, alarm: Alarm, now: float) -> HealthFailure:
        """Enter the failure in the books and make the error of it."""
        self.failures += 1
        what = f"{test.name} test: {test.describe(alarm.cutoff)}"
        if not alarm.permanent and not self._is_third(now):
            self._move(Event.INTERMITTENT)
            return _failure(IntermittentHealthFailure, what, test, alarm, _INTERMITTENT_HINT)
        if not alarm.permanent:
            what = f"third failure in ten minutes: {what}"
        self._move(Event.PERMANENT)
        self._latched = partial(_failure, PermanentHealthFailure, what, test, alarm, _PERMANENT_HINT)
        return self._latched()

    def _is_third(self, now: float) -> bool:
        """Note an intermittent failure; tell whether it is one too many."""
        self._intermittent_at.append(now)
        times = self._intermittent_at
        return len(times) == FAILURES_TO_PERMANENT and now - times[0] <= FAILURE_MEMORY_S


def _failure(
    kind: type[HealthFailure], what: str, test: HealthTest, alarm: Alarm, hint: str
) -> HealthFailure:
    return kind(
        what,
        test=test.name,
        count=alarm.cutoff,
        cutoff=alarm.cutoff,
        position=alarm.position,
        hint=hint,
    )


def tests_of(claim: NoiseClaim, hash_key: bytes) -> tuple[tuple[HealthTest, ...], tuple[HealthTest, ...]]:
    """Make the tests of bytes and the tests of bits that a claim asks for, as the daemon runs them."""
    per_byte = claim.min_entropy
    byte_tests: tuple[HealthTest, ...] = (
        RepetitionCountTest(per_byte, "byte"),
        AdaptiveProportionTest(per_byte, "byte", BYTE_WINDOW),
        RepeatTest(per_byte, hash_key=hash_key),
        DistantRepeatTest(per_byte, hash_key=hash_key),
    )
    if not claim.bits:
        return byte_tests, ()
    per_bit = float(exact(per_byte) / 8)
    return byte_tests, (
        RepetitionCountTest(per_bit, "bit"),
        AdaptiveProportionTest(per_bit, "bit", BIT_WINDOW),
    )
