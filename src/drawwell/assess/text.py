"""Detect text, which is assessed as samples only on request.

If the hex digits of perfect noise are taken as samples, each sample has 7 bits, but its
entropy is 4 bits.
"""

import codecs
import re
from itertools import pairwise
from typing import Final

from drawwell.errors import BadData

LOOK_BYTES: Final = 1 << 16
SPACE: Final = b" \t\n\r\f\v,"
HOW_TO_READ: Final = (
    "Set --format to hex, bits, column or csv:N, or to bytes if the characters are the samples."
)
_OFFSET: Final = re.compile(rb"0[0-9a-fA-F]{6,}")
_RISING_LINES: Final = 8  # eight cells of noise are in rising order with probability 1 in 40,320


def encoding_of(data: bytes | memoryview) -> str:
    """Return the encoding if data are printable text, else ""."""
    head = bytes(data[:LOOK_BYTES])
    encodings = ["utf-8-sig"]
    encodings += ["utf-16"] if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else []
    encodings += [name for at, name in ((1, "utf-16-le"), (0, "utf-16-be")) if not any(head[at::2])]
    return next((name for name in encodings if _is_text(head, name)), "")


def kind_of_text(data: bytes | memoryview) -> str:
    """Return the kind of text, or "" for none.

    64 bytes of noise look like text with probability 2^-22, 512 bytes with 2^-75.
    """
    encoding = encoding_of(data)
    if len(data) < 64 or not encoding:
        return ""
    head = bytes(data[:LOOK_BYTES]).decode(encoding, "ignore").encode("ascii", "replace")
    kind = _kind(head)
    return f"{kind} in UTF-16" if encoding.startswith("utf-16") else kind


def is_table(data: bytes) -> bool:
    """Return whether the first two lines have the same number of commas.

    They must have at least one comma. If the first line ends with one, the data are a list of
    numbers and not a table.
    """
    first, second = (*data[:LOOK_BYTES].splitlines(), b"", b"")[:2]
    return 0 < first.count(b",") == second.count(b",") and not first.rstrip().endswith(b",")


def has_offsets(data: bytes) -> bool:
    """Return whether the lines begin with offsets, as od and xxd print them."""
    whole = data[:LOOK_BYTES].splitlines()[: -1 if len(data) > LOOK_BYTES else None]
    lines = [cells for line in whole if (cells := line.split())]
    several = [cells for cells in lines if len(cells) > 1]
    if lines == several and all(cells[0].endswith(b":") for cells in lines):
        return bool(lines)
    if len(lines) < 3 or len(several) < len(lines) - 1:  # the last line of od has only an offset
        return False
    first = [cells[0].lower() for cells in lines]
    padded = all(_OFFSET.fullmatch(cell) for cell in first)
    rising = all((len(one), one) < (len(two), two) for one, two in pairwise(first))
    return rising and (padded or len(lines) >= _RISING_LINES)


def _is_text(head: bytes, encoding: str) -> bool:
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeError:
        return False
    return "".join(text.split()).isprintable()


def _kind(head: bytes) -> str:
    digits = head.translate(None, SPACE)
    if not digits.translate(None, b"01"):
        return "zeros and ones as characters"
    if len(head.replace(b",", b" ").split()) > 1 and not digits.translate(None, b"0123456789-+"):
        return "comma-separated values" if is_table(head) else "decimal numbers"
    if not digits.translate(None, b"0123456789abcdefABCDEFxX"):
        return "hexadecimal digits"
    return "comma-separated values" if is_table(head) else "characters"


def require_samples(data: bytes, name: str) -> None:
    """Check that data are not text.

    Raises:
        BadData: the data are text; the hint names the option that reads it.
    """
    if kind := kind_of_text(data):
        raise BadData(f"{name} is text ({kind}) and was not assessed", hint=HOW_TO_READ)
