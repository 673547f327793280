"""Detect text, which is assessed as samples only on request.

If the hex digits of perfect noise are taken as samples, each sample has 7 bits, but its
entropy is 4 bits.
"""

from typing import Final

from drawwell.errors import BadData

LOOK_BYTES: Final = 1 << 16
_TEXT: Final = bytes(range(0x20, 0x7F)) + b"\t\n\r\f\v"
SPACE: Final = b" \t\n\r\f\v,"
HOW_TO_READ: Final = (
    "Set --format to hex, bits, column or csv:N, or to bytes if the characters are the samples."
)


def kind_of_text(data: bytes | memoryview) -> str:
    """Return the kind of text, or "" for none.

    64 bytes of noise look like text with probability 2^-90.
    """
    head = bytes(data[:LOOK_BYTES])
    if len(head) < 64 or head.translate(None, _TEXT):
        return ""
    digits = head.translate(None, SPACE)
    if not digits.translate(None, b"01"):
        return "zeros and ones as characters"
    first, second = (*head.splitlines(), b"", b"")[:2]
    if second.strip() and not digits.translate(None, b"0123456789-+"):
        return "comma-separated values" if b"," in first else "a column of numbers"
    if not digits.translate(None, b"0123456789abcdefABCDEFxX"):
        return "hexadecimal digits"
    return "comma-separated values" if 0 < first.count(b",") == second.count(b",") else "characters"


def require_samples(data: bytes, name: str) -> None:
    """Check that data are not text.

    Raises:
        BadData: the data are text; the hint names the option that reads it.
    """
    if kind := kind_of_text(data):
        raise BadData(f"{name} is text ({kind}) and was not assessed", hint=HOW_TO_READ)
