"""Text is recognised, and never taken for samples unasked.

Hexadecimal digits of perfect noise would be judged as samples of 7 bits that hold 4.
"""

from typing import Final

from drawwell.errors import BadData

LOOK_BYTES: Final = 1 << 16
_TEXT: Final = bytes(range(0x20, 0x7F)) + b"\t\n\r\f\v"
SPACE: Final = b" \t\n\r\f\v,"
HOW_TO_READ: Final = (
    "Name its form: --format hex, bits, column or csv:N; or bytes, if the characters are the samples."
)


def kind_of_text(data: bytes | memoryview) -> str:
    """Return what kind of text this is, "" for none.

    64 bytes of noise pass for text once in 2^90.
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
    """Refuse text.

    Raises:
        BadData: it is text; the hint has the option that reads it.
    """
    if kind := kind_of_text(data):
        raise BadData(f"{name} is text ({kind}): nothing was judged", hint=HOW_TO_READ)
