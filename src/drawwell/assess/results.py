"""Results of SP 800-90B's non-IID track: frozen, typed, with stated units.

Every `min_entropy` is in bits per sample of its own column: per bit in the bit string, and per
symbol in the literal column. Probabilities are per sample. Times are wall-clock seconds.
"""

from collections.abc import Callable
from dataclasses import dataclass

from drawwell.reports import Report

Number = int | float


@dataclass(frozen=True, slots=True)
class Estimate(Report):
    """One estimator's result for one column."""

    name: str
    """A short, permanent name for JSON and tests: "t-tuple", "multi-mmc", …"""
    title: str
    """The standard's name: "Most Common Value Estimate", …"""
    section: str
    """The section of SP 800-90B (January 2018): "6.3.1" to "6.3.10"."""
    min_entropy: float | None
    """Bits per sample; None if there are too few samples, which excludes the estimator."""
    p: float | None
    """min_entropy is -log2 of this probability; None if no single probability gives it."""
    seconds: float
    details: dict[str, Number]
    """Intermediate values by their names in the standard: counts, p-hat, runs."""


@dataclass(frozen=True, slots=True)
class Column(Report):
    """All estimates for one interpretation of the samples."""

    name: str
    """"bit string" (all bits, most significant bit of each sample first) or "literal"."""
    samples: int
    bits_per_sample: int
    """The width of a sample; 1 for the bit string."""
    symbols: int
    """Number of distinct symbols."""
    min_entropy: float
    """The minimum of the estimates, in bits per sample; at most `bits_per_sample`."""
    estimates: tuple[Estimate, ...]

    @property
    def weakest(self) -> Estimate:
        """The estimate that determines the result."""
        known = [each for each in self.estimates if each.min_entropy is not None]
        return min(known, key=lambda each: each.min_entropy or 0.0)


@dataclass(frozen=True, slots=True)
class Ceiling(Report):
    """The score of an ideal source with the same width and size.

    The estimates are lower bounds at 99 % confidence that rise slowly with the sample size. No
    finite sample of an ideal source therefore reaches the source's true entropy.
    """

    min_entropy: float
    """Bits per sample: the median of several ideal sources."""
    low: float
    """The lowest score of these sources."""
    high: float
    """The highest score of these sources."""
    provenance: str
    """A sentence that explains how the figures were obtained."""


@dataclass(frozen=True, slots=True)
class NonIidResult(Report):
    """The initial entropy estimate of SP 800-90B 3.1.3, non-IID track."""

    samples: int
    bits_per_sample: int
    """The declared width, or the highest bit that any sample uses."""
    symbols: int
    """Number of distinct symbols."""
    min_entropy: float
    """H_I: the minimum of `h_original` and `bits_per_sample` times `h_bitstring`."""
    h_original: float
    """The literal column's estimate in bits per sample."""
    h_bitstring: float | None
    """The bit string's estimate in bits per bit; None for two symbols (same as literal)."""
    literal: Column
    bit_string: Column | None
    ceiling: Ceiling | None
    notes: tuple[str, ...]
    """Sentences about too few samples, unused bits and renumbered symbols."""
    seconds: float

    @property
    def columns(self) -> tuple[Column, ...]:
        """The bit string (if there is one), then the literal column."""
        return (self.literal,) if self.bit_string is None else (self.bit_string, self.literal)


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of an assessment."""

    done: float
    """The completed share of the estimated work, 0 to 1."""
    seconds_left: float | None
    """None until the first estimator has finished."""
    running: tuple[str, ...]
    """The running jobs: "bit string: multi-mmc", …"""


ProgressCallback = Callable[[Progress], None]
"""Called in the caller's thread several times per second; may raise an exception to stop."""
