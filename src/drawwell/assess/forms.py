"""Read sample files in several formats as one sample per byte."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from drawwell.assess.text import HOW_TO_READ, SPACE, require_samples
from drawwell.errors import BadData, UsageError

Wide = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class ReadSamples:
    """Samples, one per byte, and how the file was converted to them."""

    data: bytes = field(repr=False)
    how: str = ""


def read_as(form: str | None, data: bytes, name: str) -> ReadSamples:
    """Read a file's bytes in one of `FORMS`; None: one sample per byte.

    Raises:
        BadData: the bytes are not in this format.
        UsageError: the format is unknown.
    """
    if form is None:
        require_samples(data, name)
        return ReadSamples(data)
    kind, _, column = form.partition(":")
    if kind not in FORMS or bool(column) != (kind == "csv"):
        raise UsageError(f"--format {form}: unknown format", hint=f"The formats are {', '.join(FORMS)}.")
    try:
        if kind == "csv":
            return narrow(_csv(data, column))
        read = FORMS[kind](data)
    except ValueError as error:
        raise BadData(f"{name} is not in the format {form}: {error}", hint=HOW_TO_READ) from None
    return ReadSamples(read) if isinstance(read, bytes) else narrow(read)


def narrow(samples: Wide) -> ReadSamples:
    """Reduce wide samples to their eight best bits (SP 800-90B 6.4).

    SP 800-90B requires the submitter to rank the bits. Here each bit is ranked by its own most
    common value estimate. Dropped bits count as zero entropy, so the result is a lower bound
    for the whole sample.
    """
    width = int(np.bitwise_or.reduce(samples, initial=0)).bit_length()
    if width <= 8:
        return ReadSamples(
            samples.astype(np.uint8).tobytes(), f"{samples.size:,} numbers of up to {width} bits"
        )
    ones = [float(np.mean((samples >> np.uint64(bit)) & np.uint64(1))) for bit in range(width)]
    ranked = sorted(range(width), key=lambda bit: (abs(ones[bit] - 0.5), bit))
    kept = sorted(ranked[:8])
    made = np.zeros(samples.size, dtype=np.uint8)
    for to, bit in enumerate(kept):
        made |= (((samples >> np.uint64(bit)) & np.uint64(1)) << np.uint64(to)).astype(np.uint8)
    bits = ", ".join(map(str, kept))
    return ReadSamples(
        made.tobytes(),
        f"of {width}-bit samples, bits {bits} were kept because they vary most (SP 800-90B 6.4)",
    )


def _bytes(data: bytes) -> bytes:
    return bytes(data)


def _hex(data: bytes) -> bytes:
    text = re.sub(rb"0[xX]", b"", data).translate(None, SPACE + b":")
    return bytes.fromhex(text.decode("ascii", "replace"))


def _bits(data: bytes) -> bytes:
    text = data.translate(None, SPACE)
    if text.translate(None, b"01"):
        raise ValueError("the file has characters other than 0 and 1")
    return text.translate(bytes.maketrans(b"01", b"\0\1"))


def _column(data: bytes) -> Wide:
    return _numbers(data.split())


def _csv(data: bytes, column: str) -> Wide:
    """Read a column by its number, counted from 1, or by its heading."""
    rows = [line.split(b",") for line in data.splitlines() if line.strip()]
    heading = [cell.strip().strip(b'"').decode("utf-8", "replace") for cell in rows[0]] if rows else []
    at = int(column) - 1 if column.isdecimal() else heading.index(column) if column in heading else -1
    if not 0 <= at < len(heading):
        raise ValueError(f"the file has no column {column}")
    if not heading[at].lstrip("+-").isdecimal():
        rows = rows[1:]
    if any(len(row) <= at for row in rows):
        raise ValueError(f"a line has no column {column}")
    return _numbers([row[at].strip().strip(b'"') for row in rows])


def _numbers(cells: list[bytes]) -> Wide:
    numbers = np.array([int(cell) for cell in cells], dtype=np.int64)
    if not numbers.size:
        raise ValueError("the file contains no numbers")
    return (numbers - min(0, int(numbers.min()))).astype(np.uint64)  # shift signed samples to start at 0


def _wide(dtype: str) -> Callable[[bytes], Wide]:
    size = np.dtype(dtype).itemsize

    def read(data: bytes) -> Wide:
        if len(data) % size:
            raise ValueError(f"{len(data):,} bytes are not a multiple of the sample size, {size} bytes")
        return np.frombuffer(data, dtype=dtype).astype(np.uint64)

    return read


FORMS: Final[dict[str, Callable[[bytes], bytes | Wide]]] = {
    "bytes": _bytes,
    "hex": _hex,
    "bits": _bits,
    "column": _column,
    "csv": _column,
    "u16le": _wide("<u2"),
    "u16be": _wide(">u2"),
    "u32le": _wide("<u4"),
    "u32be": _wide(">u4"),
}
"""Readers by format; ``csv`` needs a column, as in ``csv:2``."""
