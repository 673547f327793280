"""What a virtual machine asks for over EGD: reads that wait, many at a time, some of them answered ahead."""

from dataclasses import dataclass
from typing import Final

from drawwell.errors import RemoteProtocolError
from drawwell.wire.egd import READ_WAITING

REQUEST_BYTES: Final = 2


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests that are answered together: those that were answered ahead already, or the next one alone."""

    count: int
    missing_bytes: int
    """What must be sent for them."""
    left_bytes: int
    """What was sent ahead and is not used up by them."""
    smallest_bytes: int
    """The least that one of them asks for."""
    more_bytes: int = 0
    """What is sent ahead with the answer."""

    @classmethod
    def of(cls, sizes: bytes, ahead_bytes: int) -> "Batch":
        """Take the first of the requests of these `sizes`, and of those behind it as many as `ahead_bytes` pay for."""
        asked_bytes, count = sizes[0], 1
        for n_bytes in sizes[1:]:
            if asked_bytes + n_bytes > ahead_bytes:
                break
            asked_bytes += n_bytes
            count += 1
        missing_bytes, left_bytes = max(0, asked_bytes - ahead_bytes), max(0, ahead_bytes - asked_bytes)
        return cls(count, missing_bytes, left_bytes, min(sizes[:count]))


def read_sizes(data: bytes) -> bytes:
    """Return how much each whole request in `data` asks for, a byte each.

    Raises:
        RemoteProtocolError: something else than reads that wait.
    """
    commands = data[::REQUEST_BYTES]
    if commands.count(READ_WAITING) != len(commands):
        raise RemoteProtocolError("a virtual machine asks for bytes and waits for them, nothing else")
    return data[1::REQUEST_BYTES]
