"""What an assessment by SP 800-90B's non-IID track found: frozen, typed, in stated units.

Every `min_entropy` is in bits per sample of the column it stands in: per bit in the bit string, per symbol
in the literal column. Probabilities are per sample, times are seconds of the clock on the wall.
"""

from collections.abc import Callable
from dataclasses import dataclass

from drawwell.reports import Report

Number = int | float


@dataclass(frozen=True, slots=True)
class Estimate(Report):
    """One estimator over one column."""

    name: str
    """Short and stable, for JSON and tests: "t-tuple", "multi-mmc", …"""
    title: str
    """As the standard calls it: "Most Common Value Estimate", …"""
    section: str
    """Where SP 800-90B (January 2018) defines it: "6.3.1" to "6.3.10"."""
    min_entropy: float | None
    """Bits per sample; None when the data are too short for this estimator, which then counts for nothing."""
    p: float | None
    """The probability that min_entropy is minus the binary logarithm of; None where there is no single one."""
    seconds: float
    details: dict[str, Number]
    """Intermediate values under the names of the standard: counts, p-hat, runs."""


@dataclass(frozen=True, slots=True)
class Column(Report):
    """All estimators over one way to read the samples."""

    name: str
    """"bit string" (all bits in a row, first bit of each sample on top) or "literal" (the samples themselves)."""
    samples: int
    bits_per_sample: int
    """1 in the bit string."""
    symbols: int
    """How many different ones occur."""
    min_entropy: float
    """Bits per sample of this column: the least of the estimates, and never more than `bits_per_sample`."""
    estimates: tuple[Estimate, ...]

    @property
    def weakest(self) -> Estimate:
        """The estimate that decided."""
        known = [each for each in self.estimates if each.min_entropy is not None]
        return min(known, key=lambda each: each.min_entropy or 0.0)


@dataclass(frozen=True, slots=True)
class Ceiling(Report):
    """What an ideal source would score, assessed at the same width and length.

    The estimates are lower bounds with 99 % confidence: they tighten slowly, and no finite sample of a perfect
    source reaches its true entropy.
    """

    min_entropy: float
    """Bits per sample; the median over several ideal sources."""
    low: float
    """The least that was seen."""
    high: float
    """The most that was seen."""
    provenance: str
    """How the figures were made, in a sentence."""


@dataclass(frozen=True, slots=True)
class NonIidResult(Report):
    """The initial entropy estimate of SP 800-90B, section 3.1.3, non-IID track."""

    samples: int
    bits_per_sample: int
    """Given, or the highest bit that any sample uses."""
    symbols: int
    """How many different ones occur."""
    min_entropy: float
    """H_I: the lesser of `h_original` and `bits_per_sample` times `h_bitstring`, in bits per sample."""
    h_original: float
    """Of the literal column, in bits per sample."""
    h_bitstring: float | None
    """Of the bit string, in bits per bit; None when there are but two symbols and the columns are one."""
    literal: Column
    bit_string: Column | None
    ceiling: Ceiling | None
    notes: tuple[str, ...]
    """Sentences for the reader: too few samples for a submission, narrower than declared, symbols remapped."""
    seconds: float

    @property
    def columns(self) -> tuple[Column, ...]:
        """The bit string (where there is one), then the literal column."""
        return (self.literal,) if self.bit_string is None else (self.bit_string, self.literal)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an assessment is."""

    done: float
    """0 to 1, in estimated work."""
    seconds_left: float | None
    """None before the first estimator has finished."""
    running: tuple[str, ...]
    """What is being computed now: "bit string: multi-mmc", …"""


ProgressCallback = Callable[[Progress], None]
"""Called in the caller's own thread, some times a second; what it raises ends the assessment."""
