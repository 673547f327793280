"""drawwell's own health tests, run on captured or generated samples."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from drawwell.entropy.blocks import RawBlock
from drawwell.entropy.continuous import HealthTest
from drawwell.entropy.health import HealthMonitor, NoiseClaim, tests_of
from drawwell.entropy.landmarks import DistantRepeatTest
from drawwell.entropy.repeat import RepeatTest
from drawwell.errors import HealthFailure, PermanentHealthFailure
from drawwell.reports import HealthTestReport, Report, SourceState

BLOCK_BYTES: Final = 4096
"""The size of one read from a source."""
WINDOWS: Final = 100
_MOST_EVENTS: Final = 50


@dataclass(frozen=True, slots=True)
class HealthEvent(Report):
    """An event at a sample, counted from 0: a failure, a pass or the end."""

    sample: int
    kind: str
    test: str
    words: str  # wording: a JSON key


@dataclass(frozen=True, slots=True)
class Margin(Report):
    """The worst count of one test in each window, and the test's cutoffs."""

    test: str
    unit: str
    cutoff_intermittent: int
    cutoff_permanent: int
    worst: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class HealthRun(Report):
    """Result of the health tests for one claim (bits of min-entropy per byte).

    `events` are in order, at most 50. A permanent failure ends the run after `samples`.
    """

    min_entropy: float
    samples: int
    state: SourceState
    failures: int
    events: tuple[HealthEvent, ...]
    tests: tuple[HealthTestReport, ...]


def run_health_tests(blocks: Iterable[bytes], claim: NoiseClaim, hash_key: bytes) -> HealthRun:
    """Feed blocks to a `HealthMonitor` as a source does, with a stopped clock.

    Three intermittent failures within ten minutes are permanent; here, any three are.

    Args:
        blocks: Samples, one per byte; an empty block means a dead source and ends the run.
        claim: The min-entropy claimed for the samples.
        hash_key: Key of the repeat test, 16 to 64 bytes.
    """
    monitor = HealthMonitor(claim, hash_key=hash_key)
    monitor.start()
    judged, events = 0, list[HealthEvent]()
    for block in blocks:
        if not block:
            events.append(
                HealthEvent(judged, "dead", "", "no more samples: the source is taken out of service")
            )
            monitor.stop()
            break
        before = monitor.state
        try:
            monitor.feed(RawBlock(block), 0.0)
        except HealthFailure as error:
            events.append(_failure(error, judged))
            if isinstance(error, PermanentHealthFailure):
                judged += len(block)
                break
        judged += len(block)
        if monitor.state is SourceState.HEALTHY and before is not SourceState.HEALTHY:
            events.append(HealthEvent(judged - 1, "healthy", "", "the start-up tests passed"))
    return HealthRun(
        min_entropy=claim.min_entropy,
        samples=judged,
        state=monitor.state,
        failures=monitor.failures,
        events=tuple(events[:_MOST_EVENTS]),
        tests=monitor.reports(),
    )


def blocks_of(data: bytes) -> Iterable[bytes]:
    """Split samples into blocks the size of one read."""
    return (data[at : at + BLOCK_BYTES] for at in range(0, len(data), BLOCK_BYTES))


def margins_of(data: bytes, claim: NoiseClaim) -> tuple[Margin, ...]:
    """Return the worst repetition and proportion counts per 1/100 of `data`."""
    tests = [
        test
        for test in tests_of(claim, b"a key without secrets")
        if not isinstance(test, RepeatTest | DistantRepeatTest)
    ]
    size = max(1, -(-len(data) // WINDOWS))
    found: list[list[int]] = [[] for _ in tests]
    for at in range(0, len(data), size):
        part = data[at : at + size]
        for worst, test in zip(found, tests, strict=True):
            test.begin_minute()
            test.feed(part)
            worst.append(test.worst)
    return tuple(_margin(test, worst) for test, worst in zip(tests, found, strict=True))


def _margin(test: HealthTest, worst: list[int]) -> Margin:
    return Margin(
        test=test.name,
        unit=test.unit,
        cutoff_intermittent=test.cutoffs.intermittent,
        cutoff_permanent=test.cutoffs.permanent,
        worst=tuple(worst),
    )


def _failure(error: HealthFailure, judged: int) -> HealthEvent:
    kind = "permanent" if isinstance(error, PermanentHealthFailure) else "intermittent"
    # tests of bits count bits
    per_sample = 8 if " bits in " in str(error) else 1
    return HealthEvent(judged + error.position // per_sample, kind, error.test, str(error))
