r"""Parser of a OneRNG's short replies, anywhere in a stream of noise.

Source: OneRNG/firmware 81d70bf, cdc_app.c and validate.c. The reply to ``cmdv`` is
``\r\nVersion 3\r\n``. The reply to ``cmdI`` (V3) is a line of eight underscores, 32 upper-case
hexadecimal digits and eight underscores.
"""

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class VersionReply:
    """The version of the running firmware."""

    version: int


@dataclass(frozen=True, slots=True)
class IdentityReply:
    """The hardware ID, 32 upper-case hexadecimal digits."""

    hardware_id: str


Reply = VersionReply | IdentityReply

# The version is a 16-bit field of the image header, so it has at most five digits.
_REPLY: Final = re.compile(rb"\r\n(?:Version ([0-9]{1,5})|_{8}([0-9A-F]{32})_{8})\r\n")
_LONGEST: Final = 2 + 8 + 32 + 8 + 2


class ReplyParser:
    """Finds replies in a stream; buffers less than one reply."""

    def __init__(self) -> None:
        self._tail = b""

    def feed(self, data: bytes) -> list[Reply]:
        """Return the replies that these bytes complete; chunks may have any size."""
        text = self._tail + data
        replies, end = [], 0
        for match in _REPLY.finditer(text):
            replies.append(_reply(match))
            end = match.end()
        self._tail = text[max(end, len(text) - _LONGEST + 1) :]
        return replies


def _reply(match: re.Match[bytes]) -> Reply:
    if match[1] is not None:
        return VersionReply(int(match[1]))
    return IdentityReply(match[2].decode("ascii"))
