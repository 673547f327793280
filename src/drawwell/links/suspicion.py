"""Detection of dishonest or broken brokers: constant or repeated grants.

It detects little: a broker that keeps a copy of the bytes is not detected. To avoid depending
on a single broker, draw from two and mix their bytes (``mix`` in [links]).
"""

import hashlib
import os
from collections import deque
from typing import Final

from drawwell.entropy.blocks import Grant
from drawwell.errors import RemoteProtocolError

_LEAST_BYTES: Final = 16
"""Shorter grants can repeat or be constant by chance; 16 bytes do so once in 2^120 draws."""
_REMEMBERED: Final = 4096


class _Recent:
    """A bounded set of recent items."""

    def __init__(self) -> None:
        self._items: set[int | bytes] = set()
        self._order: deque[int | bytes] = deque()

    def add(self, item: int | bytes) -> bool:
        """Add an item; return False if it is already in the set."""
        if item in self._items:
            return False
        self._items.add(item)
        self._order.append(item)
        if len(self._order) > _REMEMBERED:
            self._items.discard(self._order.popleft())
        return True


class Suspicion:
    """Checks every grant of a broker. It stores keyed hashes, never bytes."""

    def __init__(self) -> None:
        self._key = os.urandom(32)
        self._serials = _Recent()
        self._digests = _Recent()

    def look(self, grant: Grant) -> None:
        """Check a grant.

        Raises:
            RemoteProtocolError: the serial number or the bytes repeat earlier ones, or all
                bytes are equal.
        """
        if not self._serials.add(grant.serial):
            raise RemoteProtocolError(f"the broker sent grant {grant.serial} twice", hint=_HINT)
        if len(grant) < _LEAST_BYTES:
            return
        if grant.data.count(grant.data[0]) == len(grant):
            raise RemoteProtocolError("the broker sent a grant in which all bytes are equal", hint=_HINT)
        digest = hashlib.blake2b(grant.data, key=self._key, digest_size=16).digest()
        if not self._digests.add(digest):
            raise RemoteProtocolError("the broker sent the same bytes twice", hint=_HINT)


_HINT = (
    "The broker is faulty or dishonest. Do not use its bytes, and check its sources with 'drawwell status'."
)
