"""Run a source's samples and induced failures through the health tests.

Stuck, biased, looping and dead inputs are derived from the source's own samples, so each of
these failures is one that this source could have.
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
"""Samples before the failure: four times as many as the start-up tests use."""
SICK: Final = 32 * BLOCK_BYTES
LOOP: Final = 4096
_MOST_PARTS: Final = 8


@dataclass(frozen=True, slots=True)
class InducedFailure(Report):
    """A demonstration: the failure starts at sample `failed_at`.

    `noticed_after` is the number of samples until a test detects the failure: None if no test
    does, 0 if the source stops sending samples (an error of its driver).
    """

    name: str
    words: str  # wording: a JSON key
    failed_at: int
    noticed_after: int | None
    run: HealthRun


def induce_failures(samples: bytes, claim: NoiseClaim, hash_key: bytes) -> tuple[InducedFailure, ...]:
    """Run all demonstrations.

    Args:
        samples: The source's samples; 327,680 are enough for the lowest claim.
        claim: The claimed min-entropy, which determines the tests.
        hash_key: Key of the repeat test, 16 to 64 bytes.

    Raises:
        BadData: there are too few samples.
    """
    head, rest = samples[:HEALTHY], samples[HEALTHY:]
    parts = _parts_needed(claim)
    size = min(SICK, len(rest) // parts)
    if size < 4 * BLOCK_BYTES:
        raise BadData(
            f"{len(samples)} samples are too few to induce failures", hint="Capture 1,000,000 samples."
        )
    few = f"each bit is the AND of {parts} source bits: {2.0**-parts:.3g} are ones"
    cases = (
        _Case("healthy", "the unchanged samples: no test fires", rest[:SICK]),
        _Case("stuck", "the last sample, repeated", head[-1:] * SICK),
        _Case("biased", few, _all_of(rest, size, parts)),
        _Case("looping", f"the last {LOOP} samples, repeated", head[-LOOP:] * (SICK // LOOP)),
        _Case("dead", "no more samples", b""),
    )
    return tuple(_demonstrate(case, head, claim, hash_key) for case in cases)


@dataclass(frozen=True, slots=True)
class _Case:
    name: str
    text: str
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
    return InducedFailure(case.name, case.text, len(head), noticed, run)


def _parts_needed(claim: NoiseClaim) -> int:
    """Return how many bits to AND for an entropy well below the claim."""
    per_bit = claim.min_entropy / 8
    for parts in range(2, _MOST_PARTS):
        zero = 1 - 2.0**-parts
        often = zero if claim.bits else zero**8
        limit = 2.0 ** -(per_bit if claim.bits else claim.min_entropy)
        if often > limit + 0.5 * (1 - limit):
            return parts
    return _MOST_PARTS


def _all_of(samples: bytes, size: int, parts: int) -> bytes:
    """Return the bitwise AND of `parts` sections of the samples."""
    together = int.from_bytes(samples[:size], "big")
    for part in range(1, parts):
        together &= int.from_bytes(samples[part * size : (part + 1) * size], "big")
    return together.to_bytes(size, "big")


def log_of(failures: Sequence[InducedFailure], *, simulated: bool) -> str:
    """Format the demonstrations, one event per line with its sample number."""
    lines = [
        "Induced failures, tested by the HealthMonitor that every source runs. Sample numbers start at 0."
    ]
    if simulated:
        lines.append("SIMULATED DEVICE: the samples are not from hardware.")
    for failure in failures:
        lines += ["", f"[{failure.name}] {failure.words}"]  # wording: a JSON key
        switch = [
            (failure.failed_at, "the failure starts" if failure.name != "healthy" else "the samples continue")
        ]
        events = [(e.sample, f"{e.kind}: {e.words}") for e in failure.run.events]  # wording: a JSON key
        lines += [
            f"  sample {at:>9,}  {text}" for at, text in sorted(switch + events, key=lambda entry: entry[0])
        ]
        run = failure.run
        lines.append(f"  final state: {run.state}, {run.failures} failures in {run.samples:,} samples")
        if failure.noticed_after:
            lines.append(f"  detected after {failure.noticed_after:,} samples of the failure")
    return "\n".join(lines) + "\n"
