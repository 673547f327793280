"""The health of one source: its tests and its states.

Laws:

1. A block is returned only after it has passed all tests.
2. Start-up samples are never used. An intermittent failure repeats the start-up tests.
3. An intermittent failure has a probability of 2**-30 if the source meets its claim; the third
   one within ten minutes is permanent. A permanent failure has a probability of 2**-60, and
   stays latched until an operator resets it.
4. `start` and `stop` keep all state: runs, windows, known repeats and past failures.
5. Calling `start` on a healthy source runs the on-demand test.

`MOVES` contains all transitions.
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
    BitProportionTest,
    BitRepetitionCountTest,
    HealthTest,
    RepetitionCountTest,
)
from drawwell.entropy.cutoffs import BIT_WINDOW, BYTE_WINDOW, STARTUP_SAMPLES, exact
from drawwell.entropy.landmarks import DistantRepeatTest
from drawwell.entropy.most_common import MostCommonValue
from drawwell.entropy.repeat import RepeatTest
from drawwell.errors import HealthFailure, IntermittentHealthFailure, PermanentHealthFailure
from drawwell.reports import HealthTestReport, SourceState
from drawwell.units import Bits

FAILURES_TO_PERMANENT: Final = 3
FAILURE_MEMORY_S: Final = 600.0  # three failures of probability 2**-30 in ten minutes are not chance
MINUTE_S: Final = 60.0

_INTERMITTENT_HINT: Final = (
    "The block was discarded, and the start-up tests are repeated. "
    "A third failure within ten minutes stops the source."
)
_PERMANENT_HINT: Final = "Check the device, then restart it with `drawwell source reset`."


class Event(Enum):
    """Events that change a source's state."""

    START = auto()
    STOP = auto()
    PASSED = auto()
    """The start-up tests passed."""
    INTERMITTENT = auto()
    PERMANENT = auto()
    RESET = auto()
    """The operator reset a failure."""


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
    """The owner's claim about a source's raw samples, which are one byte each.

    Args:
        min_entropy: Bits of min-entropy per byte, above 0 and at most 8.
        bits: Whether each bit has an eighth of the min-entropy: true for packed one-bit
            samples, false if some bits of a sample have less noise than others.

    Raises:
        ValueError: `min_entropy` is out of range.
    """

    min_entropy: float = 6.0
    bits: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.min_entropy <= 8:
            raise ValueError(f"min-entropy must be above 0 and at most 8 bits, not {self.min_entropy}")

    def assessed(self, n_bytes: int) -> Bits:
        """Return the min-entropy of `n_bytes` samples, rounded down."""
        bits = exact(self.min_entropy)
        return Bits(bits.numerator * n_bytes // bits.denominator)


class HealthMonitor:
    """Runs all tests of one source's samples, and keeps the source's state.

    Args:
        claim: The claim for the samples.
        hash_key: 16 to 64 secret bytes for the hashes of this monitor's repeat tests.
    """

    def __init__(self, claim: NoiseClaim, *, hash_key: bytes) -> None:
        self.state = SourceState.OFF
        self.epoch = 0
        self.failures = 0
        self._claim = claim
        self._tests = tests_of(claim, hash_key)
        self.most_common = MostCommonValue(claim.min_entropy)
        self.startup_bytes = 0
        """Samples processed so far by the running start-up tests."""
        self._startup_at = 0.0
        self._minute_at = 0.0
        self._intermittent_at: deque[float] = deque(maxlen=FAILURES_TO_PERMANENT)
        self._latched: Callable[[], HealthFailure] | None = None

    def start(self) -> None:
        """Begin the start-up tests; a latched failure stays latched."""
        self._move(Event.START)

    def stop(self) -> None:
        """Record that the source was closed."""
        self._move(Event.STOP)

    def reset(self) -> None:
        """Clear a latched failure at the operator's request; turn the source off."""
        if self._latched:
            self._latched = None
            self._intermittent_at.clear()
            for test in self._tests:
                test.forget()
        self._move(Event.RESET)

    def feed(self, block: RawBlock, now: float) -> TestedBlock | None:
        """Test a block; return it with its min-entropy, or None during start-up.

        `now` is in seconds on a clock that never steps back.

        Raises:
            IntermittentHealthFailure: a test fired; drop the block. The start-up tests are
                repeated.
            PermanentHealthFailure: a test fired permanently, now or earlier.
        """
        assert self.state is not SourceState.OFF, "a closed source sends no blocks"  # noqa: S101
        if self._latched:
            raise self._latched()
        if now - self._minute_at >= MINUTE_S:
            self._minute_at = now
            for test in self._tests:
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
        """Estimate the start-up tests' remaining seconds, 0 if none are running."""
        if not self.startup_bytes:
            return 0.0
        return (STARTUP_SAMPLES - self.startup_bytes) * (now - self._startup_at) / self.startup_bytes

    def condemn(self, what: str) -> None:
        """Latch a failure that was found by comparing with another source."""
        if self._latched is None:
            self.failures += 1
            self._move(Event.PERMANENT)
            self._latched = partial(
                PermanentHealthFailure, what, test="twin", count=1, cutoff=1, position=0, hint=_PERMANENT_HINT
            )

    def reports(self) -> tuple[HealthTestReport, ...]:
        """Return a report of every test, with its worst counts."""
        return tuple(test.report() for test in self._tests)

    def _move(self, event: Event) -> None:
        self.state = MOVES[self.state, event]
        self.startup_bytes = 0

    def _judge(self, data: bytes) -> tuple[HealthTest, Alarm] | None:
        """Run all tests on a block; return the earliest of the worst alarms."""
        alarms = [
            (not alarm.permanent, alarm.position // test.per_byte, test, alarm)
            for test in self._tests
            if (alarm := test.feed(data))
        ]
        if not alarms:
            return None
        *_, test, alarm = min(alarms, key=lambda entry: entry[:2])
        return test, alarm

    def _fail(self, test: HealthTest, alarm: Alarm, now: float) -> HealthFailure:
        """Record the failure and build the exception."""
        self.failures += 1
        what = f"{test.name} test: {test.describe(alarm.cutoff)}"
        if not alarm.permanent and not self._is_third(now):
            self._move(Event.INTERMITTENT)
            return _failure(IntermittentHealthFailure, what, test, alarm, _INTERMITTENT_HINT)
        if not alarm.permanent:
            what = f"third failure within ten minutes: {what}"
        self._move(Event.PERMANENT)
        self._latched = partial(_failure, PermanentHealthFailure, what, test, alarm, _PERMANENT_HINT)
        return self._latched()

    def _is_third(self, now: float) -> bool:
        """Record a failure; return whether it is the third in ten minutes."""
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


def tests_of(claim: NoiseClaim, hash_key: bytes) -> tuple[HealthTest, ...]:
    """Create the tests for a claim."""
    per_byte = claim.min_entropy
    byte_tests: tuple[HealthTest, ...] = (
        RepetitionCountTest(per_byte, "byte"),
        AdaptiveProportionTest(per_byte, "byte", BYTE_WINDOW),
        RepeatTest(per_byte, hash_key=hash_key),
        DistantRepeatTest(per_byte, hash_key=hash_key),
    )
    if not claim.bits:
        return byte_tests
    per_bit = float(exact(per_byte) / 8)
    return *byte_tests, BitRepetitionCountTest(per_bit), BitProportionTest(per_bit, BIT_WINDOW)
