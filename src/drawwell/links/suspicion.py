"""What a consumer can see of a broker that cheats or is broken: constant bytes, and grants that come twice.

It is little: a broker that hands out bytes that it knows cannot be told from an honest one. Who does not want to
trust a single broker draws from two and mixes (``[links] mix``).
"""

import hashlib
import os
from collections import deque
from typing import Final

from drawwell.entropy.blocks import Grant
from drawwell.errors import RemoteProtocolError

_LEAST_BYTES: Final = 16
"""Shorter grants are equal, or constant, by chance: 16 bytes are once in 2^120 draws."""
_REMEMBERED: Final = 4096


class _Recent:
    """The last few of something."""

    def __init__(self) -> None:
        self._items: set[int | bytes] = set()
        self._order: deque[int | bytes] = deque()

    def add(self, item: int | bytes) -> bool:
        """Remember an item; False when it is there already."""
        if item in self._items:
            return False
        self._items.add(item)
        self._order.append(item)
        if len(self._order) > _REMEMBERED:
            self._items.discard(self._order.popleft())
        return True


class Suspicion:
    """Looks at every grant of one broker. It remembers keyed hashes of grants, never their bytes."""

    def __init__(self) -> None:
        self._key = os.urandom(32)
        self._serials = _Recent()
        self._digests = _Recent()

    def look(self, grant: Grant) -> None:
        """Let an ordinary grant pass.

        Raises:
            RemoteProtocolError: the serial number or the bytes were there before, or all bytes are the same.
        """
        if not self._serials.add(grant.serial):
            raise RemoteProtocolError(f"the broker gave grant {grant.serial} twice", hint=_HINT)
        if len(grant) < _LEAST_BYTES:
            return
        if grant.data.count(grant.data[0]) == len(grant):
            raise RemoteProtocolError("the broker gave a grant of one byte's repetition", hint=_HINT)
        digest = hashlib.blake2b(grant.data, key=self._key, digest_size=16).digest()
        if not self._digests.add(digest):
            raise RemoteProtocolError("the broker gave the same bytes twice", hint=_HINT)


_HINT = "The broker is broken or lies: do not use its bytes, and look at its 'drawwell status' and sources."
