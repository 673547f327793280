"""Read sample files in several formats as one sample per byte."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from drawwell.assess.text import HOW_TO_READ, SPACE, encoding_of, has_offsets, is_table, require_samples
from drawwell.errors import BadData, UsageError

Wide = NDArray[np.uint64]
_TEXT: Final = {"hex", "bits", "column", "csv"}
_ONE_DIGIT: Final = re.compile(rb"(?<![0-9a-fA-F])[0-9a-fA-F](?![0-9a-fA-F])")
_CELLS: Final = bytes.maketrans(b"0123456789abcdefABCDEF:" + SPACE, b"9" * 22 + b" " * (1 + len(SPACE)))
_ODD_CELLS: Final = tuple(b" " + b"9" * width + b" " for width in range(3, 20, 2))
"""Longer cells are not checked: they are lines of digits, wrapped at any width."""
_NO_OFFSETS: Final = (
    "Print the samples without offsets: 'xxd -p' or 'od -An -v -tx1' for hex, 'od -An -v -tu1' for column. "
    "To select a column, set --format to csv:N."
)


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
    if kind in _TEXT:
        encoding = encoding_of(data)
        data = data.decode(encoding, "replace").encode() if encoding else data
    if kind in {"hex", "column"} and has_offsets(data):
        raise BadData(f"the lines of {name} begin with offsets, which are not samples", hint=_NO_OFFSETS)
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
    text = re.sub(rb"\b0[xX]", b"", data)
    cells = (b" " + text.translate(_CELLS)).rstrip()
    if any(odd in cells for odd in _ODD_CELLS):
        raise ValueError("it has cells with an odd number of digits")
    if b" 9 " in cells + b" ":
        if not data.translate(None, SPACE + b":0123456789"):
            raise ValueError("it contains only decimal numbers")
        text = _ONE_DIGIT.sub(rb"0\g<0>", text)
    return bytes.fromhex(text.translate(None, SPACE + b":").decode("ascii", "replace"))


def _bits(data: bytes) -> bytes:
    text = data.translate(None, SPACE)
    if text.translate(None, b"01"):
        raise ValueError("the file has characters other than 0 and 1")
    return text.translate(bytes.maketrans(b"01", b"\0\1"))


def _column(data: bytes) -> Wide:
    if is_table(data):
        raise ValueError("the lines have several columns; select one with csv:N")
    return _numbers(data.replace(b",", b" ").split())


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
    try:
        numbers = [int(cell) for cell in cells]
    except ValueError:
        raise ValueError("it has cells that are not whole decimal numbers") from None
    if not numbers:
        raise ValueError("the file contains no numbers")
    if (low := min(numbers)) < 0:  # shift signed samples to start at 0
        numbers = [number - low for number in numbers]
    if max(numbers).bit_length() > 64:
        raise ValueError("the numbers need more than 64 bits")
    return np.array(numbers, dtype=np.uint64)


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
