"""The summary of ``drawwell check``, as rngtest's lines or as JSON."""

import math
from dataclasses import dataclass, field
from typing import Any, Final

from drawwell.assess.fips140.blocks import VerdictTally
from drawwell.assess.fips140.verdict import BLOCK_BYTES

FAILURE_RATE: Final = 0.0008
"""The share of blocks from an ideal source that fail: 968 of 1,200,000 in rngtest."""
MORE_THAN_CHANCE: Final = 0.001
"""Failures are reported as excessive if their probability by chance is below this."""
PREFIX: Final = "rngtest: "
"""The prefix must equal rngtest's, because scripts search for these lines."""

_UNITS: Final = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")


@dataclass(slots=True)
class Speed:
    """Seconds per block: minimum, maximum and total."""

    least_s: float = 0.0
    most_s: float = 0.0
    total_s: float = 0.0
    blocks: int = 0

    def add(self, seconds: float, blocks: int = 1) -> None:
        """Count blocks that took `seconds` in total."""
        self.total_s += seconds
        if not blocks:
            return
        each = seconds / blocks
        self.least_s = min(self.least_s or each, each)
        self.most_s = max(self.most_s, each)
        self.blocks += blocks

    def line(self) -> str:
        """Format as rngtest does, in the largest unit that keeps all figures >= 1."""
        bits = 8.0 * BLOCK_BYTES
        figures = [
            bits / self.most_s if self.most_s else 0.0,
            bits * self.blocks / self.total_s if self.blocks and self.total_s else 0.0,
            bits / self.least_s if self.least_s else 0.0,
        ]
        unit = 0
        while min(figures) >= 1024 and unit < len(_UNITS) - 1:
            figures = [figure / 1024 for figure in figures]
            unit += 1
        low, average, high = figures
        return f"(min={low:.3f}; avg={average:.3f}; max={high:.3f}){_UNITS[unit]}bits/s"


@dataclass(slots=True)
class Summary:
    """Counts and speeds of input, tests and output."""

    title: str
    """The displayed name of the input."""
    pipe: bool
    started: float
    tally: VerdictTally = field(default_factory=VerdictTally)
    received_bytes: int = 0
    sent_bytes: int = 0
    input: Speed = field(default_factory=Speed)
    tests: Speed = field(default_factory=Speed)
    output: Speed = field(default_factory=Speed)
    text: str = ""
    """The kind of text in the first blocks, or ""."""

    def add(self, verdicts: bytes) -> None:
        """Count tested blocks by the verdicts of `BlockTester.judge_many`."""
        self.received_bytes += len(verdicts) * BLOCK_BYTES
        self.tally.add_many(verdicts)

    def lines(self, now: float) -> list[str]:
        """Render the summary as rngtest does."""
        lines = [
            f"bits received from input: {8 * self.received_bytes}",
            *([f"bits sent to output: {8 * self.sent_bytes}"] if self.pipe else ()),
            f"FIPS 140-2 successes: {self.tally.successes}",
            f"FIPS 140-2 failures: {self.tally.failures}",
            *(f"FIPS 140-2(2001-10-10) {test.title}: {n}" for test, n in self.tally.failed.items()),
            f"input channel speed: {self.input.line()}",
            f"FIPS tests speed: {self.tests.line()}",
            *([f"output channel speed: {self.output.line()}"] if self.pipe else ()),
            f"Program run time: {(now - self.started) * 1e6:.0f} microseconds",
        ]
        return [PREFIX + line for line in lines]

    @property
    def expected_failures(self) -> float:
        """The number of blocks that would fail with an ideal source."""
        return FAILURE_RATE * self.tally.blocks

    @property
    def more_than_chance(self) -> bool:
        """Whether more blocks failed than chance explains (Poisson bound)."""
        mean = self.expected_failures
        below = (
            math.fsum(
                math.exp(count * math.log(mean) - mean - math.lgamma(count + 1))
                for count in range(self.tally.failures)
            )
            if mean
            else 0.0
        )
        return self.tally.failures > mean and 1 - below < MORE_THAN_CHANCE

    def chance_text(self) -> str:
        """Compare the number of failures with the number expected by chance."""
        verdict = "more than chance explains" if self.more_than_chance else "no more than chance explains"
        failed, blocks = f"{self.tally.failures:,}", f"{self.tally.blocks:,}"
        return f"{failed} of {blocks} blocks failed; chance alone causes about {self.expected_failures:.1f}: {verdict}"

    def document(self) -> dict[str, Any]:
        """Return the summary for JSON."""
        return {
            "input": self.title,
            "received_bytes": self.received_bytes,
            "blocks": self.tally.blocks,
            "successes": self.tally.successes,
            "failures": self.tally.failures,
            "text": self.text,
            "expected_failures": round(self.expected_failures, 3),
            "more_than_chance": self.more_than_chance,
            "failed": {str(test.name).lower(): n for test, n in self.tally.failed.items()},
            "input_s": self.input.total_s,
            "tests_s": self.tests.total_s,
        }
