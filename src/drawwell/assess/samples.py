"""Raw samples, one a byte, made ready for the estimators (SP 800-90B, sections 3.1.3 and 6.1)."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from drawwell.errors import BadData

Symbols = NDArray[np.uint8]

MIN_SAMPLES: Final = 4096
"""The largest window of the MultiMCW estimate (section 6.3.7) and one sample to predict."""

WANTED_SAMPLES: Final = 1_000_000
"""What a submission needs: SP 800-90B, section 3.1.1."""

_GATHER: Final = "Gather 1,000,000 samples, one a byte: fewer are judged only roughly."


@dataclass(frozen=True, slots=True)
class Samples:
    """Both columns of one set of samples."""

    raw: Symbols
    """As read: one sample a byte, shape (n,)."""
    bits_per_sample: int
    symbols: int
    """How many different ones occur: k."""
    literal: Symbols
    """Renumbered 0 to k - 1 in ascending order where the alphabet has gaps, shape (n,)."""
    notes: tuple[str, ...]

    @property
    def bit_string(self) -> Symbols:
        """All bits in a row, top bit of each sample first, of the samples as read; shape (n * width,)."""
        width = self.bits_per_sample
        bits = np.unpackbits(self.raw[:, np.newaxis], axis=1)[:, 8 - width :]
        return np.ascontiguousarray(bits).reshape(-1)


def parse(
    data: bytes | bytearray | memoryview | Symbols,
    bits_per_sample: int | None = None,
    *,
    name: str = "the data",
) -> Samples:
    """Take samples in, one a byte.

    Args:
        data: The samples; an array must be one-dimensional, of whole numbers 0 to 255.
        bits_per_sample: 1 to 8; None takes the highest bit that any sample uses.
        name: How errors call the data.

    Raises:
        BadData: empty, too few, all the same, wider than declared, no bytes.
    """
    raw = _bytes(data, name)
    if raw.size == 0:
        raise BadData(f"{name}: empty", hint=_GATHER)
    if raw.size < MIN_SAMPLES:
        raise BadData(
            f"{name}: {raw.size:,} samples are too few to judge: at least {MIN_SAMPLES:,} are needed",
            hint=_GATHER,
        )
    used = int(np.bitwise_or.reduce(raw)).bit_length()
    width = _width(used, bits_per_sample, name)
    present = np.flatnonzero(np.bincount(raw, minlength=256))
    if present.size == 1:
        raise BadData(
            f"{name}: all samples are {present[0]}: no entropy at all",
            hint="The source is stuck or dead: look at its health tests and at the cable.",
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
        return np.frombuffer(data, dtype=np.uint8).copy()  # writable: the suffix array library insists
    if data.ndim != 1 or data.dtype.kind not in "ub":
        raise BadData(
            f"{name}: an array of {data.ndim} dimensions of {data.dtype}, not one of unsigned bytes",
            hint="Hand in a one-dimensional array of numpy.uint8.",
        )
    if data.dtype != np.uint8 and data.size and data.max() > 255:
        raise BadData(f"{name}: samples wider than 8 bits", hint="Keep the 8 bits that hold the most noise.")
    return np.array(data, dtype=np.uint8)


def _width(used: int, declared: int | None, name: str) -> int:
    if declared is None:
        return max(used, 1)
    if not 1 <= declared <= 8:
        raise BadData(
            f"{name}: {declared} bits per sample: 1 to 8 can be judged", hint="Declare 1 to 8 bits."
        )
    if used > declared:
        raise BadData(
            f"{name}: samples use {used} bits, wider than the declared {declared}",
            hint=f"Declare {used} bits per sample, or unpack the file to one sample a byte.",
        )
    return declared


def _notes(size: int, used: int, width: int, symbols: int, *, gaps: bool) -> list[str]:
    notes = []
    if size < WANTED_SAMPLES:
        notes.append(
            f"{size:,} samples: SP 800-90B wants {WANTED_SAMPLES:,}, and fewer give a lower estimate."
        )
    if used < width:
        notes.append(f"The samples use {used} bits, fewer than the declared {width}.")
    if gaps:
        notes.append(f"Only {symbols} different samples occur; the literal column numbers them without gaps.")
    return notes
