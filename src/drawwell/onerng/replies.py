r"""The short replies of a OneRNG, found wherever they stand in a stream of noise.

Source: OneRNG/firmware 81d70bf, cdc_app.c and validate.c. ``cmdv`` answers ``\r\nVersion 3\r\n``; ``cmdI`` (V3)
answers a line of eight underscores, 32 upper-case hexadecimal digits, eight underscores.
"""

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class VersionReply:
    """The firmware's version as the running firmware says it."""

    version: int


@dataclass(frozen=True, slots=True)
class IdentityReply:
    """The hardware ID, 32 upper-case hexadecimal digits."""

    hardware_id: str


Reply = VersionReply | IdentityReply

# The version is a 16-bit field of the image header, so it has five digits at most.
_REPLY: Final = re.compile(rb"\r\n(?:Version ([0-9]{1,5})|_{8}([0-9A-F]{32})_{8})\r\n")
_LONGEST: Final = 2 + 8 + 32 + 8 + 2


class ReplyParser:
    """Finds replies in whatever the device sends; remembers fewer bytes than one reply has."""

    def __init__(self) -> None:
        self._tail = b""

    def feed(self, data: bytes) -> list[Reply]:
        """Return the replies that are whole now. How the bytes are cut into calls makes no difference."""
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
