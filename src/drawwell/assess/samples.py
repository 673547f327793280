"""Prepare raw samples, one per byte, for estimators (SP 800-90B 3.1.3)."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from drawwell.errors import BadData

Symbols = NDArray[np.uint8]

MIN_SAMPLES: Final = 4096
"""The largest window of the MultiMCW estimate (6.3.7), plus a sample to predict."""

WANTED_SAMPLES: Final = 1_000_000
"""Required for a submission (SP 800-90B 3.1.1)."""

_GATHER: Final = "Capture 1,000,000 samples, one per byte; fewer give a rough result."


@dataclass(frozen=True, slots=True)
class Samples:
    """Both columns (bit string and literal) of one set of samples."""

    raw: Symbols
    """The samples as read, one per byte, shape (n,)."""
    bits_per_sample: int
    symbols: int
    """Number of distinct symbols: k."""
    literal: Symbols
    """Symbols renumbered 0 to k - 1 in ascending order, without gaps, shape (n,)."""
    notes: tuple[str, ...]

    @property
    def bit_string(self) -> Symbols:
        """All bits of the samples as read, top bit first; shape (n * width,)."""
        width = self.bits_per_sample
        bits = np.unpackbits(self.raw[:, np.newaxis], axis=1)[:, 8 - width :]
        return np.ascontiguousarray(bits).reshape(-1)


def parse(
    data: bytes | bytearray | memoryview | Symbols,
    bits_per_sample: int | None = None,
    *,
    name: str = "the data",
) -> Samples:
    """Check raw samples and prepare both columns.

    Args:
        data: Samples, one per byte; an array must be one-dimensional, with values 0 to 255.
        bits_per_sample: 1 to 8; None means the highest bit that any sample uses.
        name: The name of the data in errors.

    Raises:
        BadData: the data are empty, too few, constant, wider than declared, or not bytes.
    """
    raw = _bytes(data, name)
    if raw.size == 0:
        raise BadData(f"{name}: empty", hint=_GATHER)
    if raw.size < MIN_SAMPLES:
        raise BadData(
            f"{name}: {raw.size:,} samples are too few: at least {MIN_SAMPLES:,} are needed",
            hint=_GATHER,
        )
    used = int(np.bitwise_or.reduce(raw)).bit_length()
    width = _width(used, bits_per_sample, name)
    present = np.flatnonzero(np.bincount(raw, minlength=256))
    if present.size == 1:
        raise BadData(
            f"{name}: all samples are {present[0]}, which contain no entropy",
            hint="The source is stuck or dead. Check its health tests and its cable.",
        )
    table = np.zeros(256, dtype=np.uint8)
    table[present] = np.arange(present.size)
    gaps = present.size != present[-1] + 1
    return Samples(
        raw=raw,
        bits_per_sample=width,
        symbols=int(present.size),
        literal=table[raw] if gaps else raw,
        notes=tuple(_notes(raw.size, used, width, int(present.size), gaps=bool(gaps))),
    )


def _bytes(data: bytes | bytearray | memoryview | Symbols, name: str) -> Symbols:
    if not isinstance(data, np.ndarray):
        return np.frombuffer(data, dtype=np.uint8).copy()  # writable: the suffix array library requires it
    if data.ndim != 1 or data.dtype.kind not in "ub":
        raise BadData(
            f"{name}: the array has {data.ndim} dimensions of {data.dtype}, not unsigned bytes",
            hint="Pass a one-dimensional array of numpy.uint8.",
        )
    if data.dtype != np.uint8 and data.size and data.max() > 255:
        raise BadData(f"{name}: samples are wider than 8 bits", hint="Keep the 8 bits with the most noise.")
    return np.array(data, dtype=np.uint8)


def _width(used: int, declared: int | None, name: str) -> int:
    if declared is None:
        return max(used, 1)
    if not 1 <= declared <= 8:
        raise BadData(f"{name}: {declared} bits per sample is out of range", hint="Declare 1 to 8 bits.")
    if used > declared:
        raise BadData(
            f"{name}: samples use {used} bits, wider than the declared {declared}",
            hint=f"Declare {used} bits per sample, or unpack the file to one sample per byte.",
        )
    return declared


def _notes(size: int, used: int, width: int, symbols: int, *, gaps: bool) -> list[str]:
    notes = []
    if size < WANTED_SAMPLES:
        notes.append(
            f"{size:,} samples: SP 800-90B requires {WANTED_SAMPLES:,}. Fewer samples give a lower estimate."
        )
    if used < width:
        notes.append(f"The samples use {used} bits, fewer than the declared {width}.")
    if gaps:
        notes.append(f"Only {symbols} distinct samples occur; the estimates on samples renumber them.")
    return notes
