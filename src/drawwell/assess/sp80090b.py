"""SP 800-90B 3.1.3: initial entropy estimate by ten non-IID estimators.

All ten are applied to the bit string, and the seven that support any alphabet to the literal
samples. Samples with two symbols form one column, to which all ten are applied. The result is
H_I = min(H_original, width x H_bitstring).
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from drawwell.assess.results import Column, Estimate, NonIidResult, ProgressCallback
from drawwell.errors import MissingExtra

try:
    from drawwell.assess.ceiling import ceiling_at
    from drawwell.assess.estimators.collision import collision
    from drawwell.assess.estimators.compression import compression
    from drawwell.assess.estimators.lag import lag
    from drawwell.assess.estimators.lz78y import lz78y
    from drawwell.assess.estimators.markov import markov
    from drawwell.assess.estimators.mcv import most_common_value
    from drawwell.assess.estimators.multimcw import multi_mcw
    from drawwell.assess.estimators.multimmc import multi_mmc
    from drawwell.assess.estimators.tuples import tuples
    from drawwell.assess.jit import COMPILED
    from drawwell.assess.samples import Samples, Symbols, parse
    from drawwell.assess.schedule import Done, Job, run
    from drawwell.assess.suffix import sorts_slowly
except ModuleNotFoundError as error:
    if error.name != "numpy":
        raise
    raise MissingExtra(
        "assessments require NumPy, which is not installed",
        hint="Install it with `pip install drawwell[assess]`, or `apt install python3-numpy python3-numba`.",
    ) from error

if TYPE_CHECKING:
    from drawwell.assess.estimators.outcome import EstimatorResult

ESTIMATORS: Final = (
    ("most-common-value", "6.3.1", "Most Common Value Estimate"),
    ("collision", "6.3.2", "Collision Estimate"),
    ("markov", "6.3.3", "Markov Estimate"),
    ("compression", "6.3.4", "Compression Estimate"),
    ("t-tuple", "6.3.5", "t-Tuple Estimate"),
    ("lrs", "6.3.6", "Longest Repeated Substring (LRS) Estimate"),
    ("multi-mcw", "6.3.7", "Multi Most Common in Window Prediction Estimate"),
    ("lag", "6.3.8", "Lag Prediction Estimate"),
    ("multi-mmc", "6.3.9", "MultiMMC Prediction Estimate"),
    ("lz78y", "6.3.10", "LZ78Y Prediction Estimate"),
)
"""Name, section and title, in the order of the standard."""

_SLOW: Final = "Numba is not installed: the assessment takes minutes instead of seconds, with equal results."
_SLOW_SORT: Final = (
    "libdivsufsort is not installed: the tuple estimates take ten times as long, with equal results."
)


def assess(
    samples: "bytes | bytearray | memoryview | Symbols",
    bits_per_sample: int | None = None,
    *,
    progress: ProgressCallback | None = None,
    threads: int = 2,
    name: str = "the data",
) -> NonIidResult:
    """Estimate the min-entropy of raw noise, as NIST's tool does (non-IID).

    Args:
        samples: One sample per byte, shape (n,), n >= 4,096; SP 800-90B requires 1,000,000.
        bits_per_sample: 1 to 8; None means the highest bit that any sample uses.
        progress: Called in this thread several times per second; its exceptions end the run.
        threads: Number of concurrent jobs; more than two save little time.
        name: The name of the data in errors.

    Returns:
        Both columns with all estimates, the assessed bits per sample, and an ideal source's
        score.

    Raises:
        BadData: the samples are empty, too few, constant, or wider than declared.
        MissingExtra: NumPy is missing; raised by the import of this module.
    """
    taken = parse(samples, bits_per_sample, name=name)
    two_symbols = taken.symbols == 2
    literal = _jobs("literal", taken.literal, taken.symbols)
    bits = [] if two_symbols else _jobs("bit string", taken.bit_string, 2)
    done, seconds = run([*bits, *literal], threads=threads, progress=progress)
    width = taken.bits_per_sample
    samples_themselves = _column("literal", done[len(bits) :], taken.raw.size, width, taken.symbols)
    bit_string = (
        None if two_symbols else _column("bit string", done[: len(bits)], taken.raw.size * width, 1, 2)
    )
    return _result(taken, samples_themselves, bit_string, seconds)


def _result(taken: "Samples", literal: Column, bit_string: Column | None, seconds: float) -> NonIidResult:
    width = taken.bits_per_sample
    bits = None if bit_string is None else bit_string.min_entropy
    return NonIidResult(
        samples=taken.raw.size,
        bits_per_sample=width,
        symbols=taken.symbols,
        min_entropy=literal.min_entropy if bits is None else min(literal.min_entropy, width * bits),
        h_original=literal.min_entropy,
        h_bitstring=bits,
        literal=literal,
        bit_string=bit_string,
        ceiling=ceiling_at(taken.raw.size, width),
        notes=(*taken.notes, *_slow()),
        seconds=seconds,
    )


def _slow() -> Iterator[str]:
    if not COMPILED:
        yield _SLOW
    if sorts_slowly():
        yield _SLOW_SORT


def _jobs(column: str, symbols: "Symbols", k: int) -> list["Job"]:
    """Make jobs in the order of ESTIMATORS; costs are measured ns per symbol."""

    def job(name: str, cost: float, work: "partial[EstimatorResult]") -> Job:
        return Job(f"{column}: {name}", cost * symbols.size, lambda: (work(),))

    binary = k == 2
    only_bits = [
        job("collision", 2, partial(collision, symbols)),
        job("markov", 2, partial(markov, symbols)),
        job("compression", 8, partial(compression, symbols)),
    ]
    return [
        job("most-common-value", 2, partial(most_common_value, symbols, k)),
        *(only_bits if binary else []),
        Job(f"{column}: t-tuple", 90.0 * symbols.size, partial(tuples, symbols)),
        job("multi-mcw", 30, partial(multi_mcw, symbols, k)),
        job("lag", 15, partial(lag, symbols, k)),
        job("multi-mmc", 90 if binary else 280, partial(multi_mmc, symbols, k)),
        job("lz78y", 60 if binary else 260, partial(lz78y, symbols, k)),
    ]


def _column(name: str, done: Sequence["Done"], samples: int, width: int, symbols: int) -> Column:
    outcomes = [(outcome, each.seconds / len(each.outcomes)) for each in done for outcome in each.outcomes]
    wanted = ESTIMATORS if symbols == 2 else (ESTIMATORS[0], *ESTIMATORS[4:])
    estimates = tuple(
        Estimate(name, title, section, outcome.min_entropy, outcome.p, seconds, outcome.details)
        for (name, section, title), (outcome, seconds) in zip(wanted, outcomes, strict=True)
    )
    known = [each.min_entropy for each in estimates if each.min_entropy is not None]
    return Column(name, samples, width, symbols, min([float(width), *known]), estimates)
