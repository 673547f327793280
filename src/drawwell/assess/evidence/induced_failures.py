"""Induced failures: what a source gave, and then stuck, biased, looping and dead input, through the daemon's own tests.

Each failing input is made of the samples that the source itself gave, so that nothing is asked of it that it could
not come to do.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from drawwell.assess.health_run import BLOCK_BYTES, HealthRun, blocks_of, run_health_tests
from drawwell.entropy.health import NoiseClaim
from drawwell.errors import BadData
from drawwell.reports import Report

HEALTHY: Final = 16 * BLOCK_BYTES
"""Samples before the failure: four start-up tests' worth."""
SICK: Final = 32 * BLOCK_BYTES
LOOP: Final = 4096
_MOST_PARTS: Final = 8


@dataclass(frozen=True, slots=True)
class InducedFailure(Report):
    """One demonstration: the failure sets in at sample `failed_at`; `noticed_after` counts samples until a test fired.

    `noticed_after` is None when none did, and 0 for a source that gives nothing more: that is an error of its driver.
    """

    name: str
    words: str
    failed_at: int
    noticed_after: int | None
    run: HealthRun


def induce_failures(samples: bytes, claim: NoiseClaim, hash_key: bytes) -> tuple[InducedFailure, ...]:
    """Run all demonstrations.

    Args:
        samples: What the source gave, at least 327,680 samples for one of the least claims.
        claim: What is claimed of it, which decides the tests.
        hash_key: For the repeat test, 16 to 64 bytes.

    Raises:
        BadData: too few samples.
    """
    head, rest = samples[:HEALTHY], samples[HEALTHY:]
    parts = _parts_needed(claim)
    size = min(SICK, len(rest) // parts)
    if size < 4 * BLOCK_BYTES:
        raise BadData(
            f"{len(samples)} samples are too few to induce failures", hint="Capture 1,000,000 samples."
        )
    few = f"a bit is one only where {parts} of the source's bits are: {2.0**-parts:.3g} of them"
    cases = (
        _Case("healthy", "the samples as they came: no test fires", rest[:SICK]),
        _Case("stuck", "the last sample over and over", head[-1:] * SICK),
        _Case("biased", few, _all_of(rest, size, parts)),
        _Case("looping", f"the last {LOOP} samples over and over", head[-LOOP:] * (SICK // LOOP)),
        _Case("dead", "no sample any more", b""),
    )
    return tuple(_demonstrate(case, head, claim, hash_key) for case in cases)


@dataclass(frozen=True, slots=True)
class _Case:
    name: str
    words: str
    sick: bytes = field(repr=False)


def _demonstrate(case: _Case, head: bytes, claim: NoiseClaim, hash_key: bytes) -> InducedFailure:
    dead = not case.sick
    end: Sequence[bytes] = (b"",) if dead else ()
    stream: Iterator[bytes] = chain(blocks_of(head), blocks_of(case.sick), end)
    run = run_health_tests(stream, claim, hash_key)
    fired = [e.sample for e in run.events if e.kind != "healthy" and e.sample >= len(head)]
    noticed = None
    if fired:
        noticed = 0 if dead else fired[0] - len(head) + 1
    return InducedFailure(case.name, case.words, len(head), noticed, run)


def _parts_needed(claim: NoiseClaim) -> int:
    """Return how many bits must be one together before their and is plainly worse than the claim."""
    per_bit = claim.min_entropy / 8
    for parts in range(2, _MOST_PARTS):
        zero = 1 - 2.0**-parts
        often = zero if claim.bits else zero**8
        limit = 2.0 ** -(per_bit if claim.bits else claim.min_entropy)
        if often > limit + 0.5 * (1 - limit):
            return parts
    return _MOST_PARTS


def _all_of(samples: bytes, size: int, parts: int) -> bytes:
    """Return the bitwise and of so many stretches of samples."""
    together = int.from_bytes(samples[:size], "big")
    for part in range(1, parts):
        together &= int.from_bytes(samples[part * size : (part + 1) * size], "big")
    return together.to_bytes(size, "big")


def log_of(failures: Sequence[InducedFailure], *, simulated: bool) -> str:
    """Write the demonstrations down, an event a line, with the sample at which each test fired."""
    lines = [
        "Induced failures, through the same HealthMonitor that runs in the daemon. Samples are counted from 0."
    ]
    if simulated:
        lines.append("SIMULATED DEVICE: the samples are no hardware's.")
    for failure in failures:
        lines += ["", f"[{failure.name}] {failure.words}"]
        switch = [
            (failure.failed_at, "the failure sets in" if failure.name != "healthy" else "more of the same")
        ]
        events = [(e.sample, f"{e.kind}: {e.words}") for e in failure.run.events]
        lines += [
            f"  sample {at:>9,}  {words}" for at, words in sorted(switch + events, key=lambda entry: entry[0])
        ]
        run = failure.run
        lines.append(f"  state afterwards: {run.state}, {run.failures} failures in {run.samples:,} samples")
        if failure.noticed_after:
            lines.append(f"  noticed after {failure.noticed_after:,} samples of the failure")
    return "\n".join(lines) + "\n"
