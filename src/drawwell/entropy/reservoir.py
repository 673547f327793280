"""The reservoir: full-entropy bytes that can be taken only once (law 2).

It is a ring buffer, allocated once, with a record of its bytes' origins. Bytes are taken in
order, and their memory is zeroed before the caller receives them (law 7). Bytes cannot be read
without being taken.
"""

from collections import deque

from drawwell.entropy.blocks import FullEntropy, Origins
from drawwell.errors import Starved


class Reservoir:
    """A ring buffer of `capacity_bytes`.

    Args:
        capacity_bytes: Size of the ring, allocated once.
        low_mark: The reservoir wants bytes once its level is below this.
        high_mark: The reservoir stops wanting bytes at this level.

    Raises:
        ValueError: unless ``0 < low_mark <= high_mark <= capacity_bytes``.
    """

    def __init__(self, capacity_bytes: int, *, low_mark: int, high_mark: int) -> None:
        if not 0 < low_mark <= high_mark <= capacity_bytes:
            raise ValueError("marks must be 0 < low_mark <= high_mark <= capacity_bytes")
        self.capacity_bytes = capacity_bytes
        """Size of the ring."""
        self._ring = memoryview(bytearray(capacity_bytes))
        self._start = 0
        self._level = 0
        self._low_mark = low_mark
        self._high_mark = high_mark
        self.wanted = True
        """True after the level falls below the low mark, until it reaches the high mark."""
        self._runs: deque[tuple[Origins, int]] = deque()

    def __len__(self) -> int:
        return self._level

    def __repr__(self) -> str:
        return f"<Reservoir {self._level} of {self.capacity_bytes} bytes>"

    @property
    def free_bytes(self) -> int:
        """The number of bytes that `put` would accept."""
        return self.capacity_bytes - self._level

    def put(self, block: FullEntropy) -> int:
        """Move in as many bytes as fit; zero `block`; return the number moved."""
        accepted = min(len(block), self.free_bytes)
        with memoryview(block.data) as source:
            offset = 0
            for part in self._parts(self._start + self._level, accepted):
                part[:] = source[offset : offset + len(part)]
                offset += len(part)
            source[:] = bytes(len(source))
        self._level += accepted
        self._note(block.origins, accepted)
        self._mark()
        return accepted

    def take(self, n: int) -> FullEntropy:
        """Remove and return the oldest `n` bytes; the caller must overwrite them.

        Raises:
            Starved: there are fewer than `n` bytes; none were taken.
            ValueError: `n` is negative.
        """
        if n < 0:
            raise ValueError("cannot take a negative number of bytes")
        if n > self._level:
            raise Starved(f"the reservoir has {self._level} bytes, not {n}")
        taken = bytearray()
        for part in self._parts(self._start, n):
            taken += part
            part[:] = bytes(len(part))
        self._start = (self._start + n) % self.capacity_bytes
        self._level -= n
        if self._level < self._low_mark:
            self.wanted = True
        return FullEntropy(taken, self._forget(n))

    def wipe(self) -> int:
        """Zero the whole ring; return the number of lost bytes."""
        lost = self._level
        self._ring[:] = bytes(self.capacity_bytes)
        self._start = self._level = 0
        self._runs.clear()
        self._mark()
        return lost

    def _note(self, origins: Origins, n: int) -> None:
        """Record the origins of the newest `n` bytes."""
        if not n:
            return
        if self._runs and self._runs[-1][0] == origins:
            n += self._runs.pop()[1]
        self._runs.append((origins, n))

    def _forget(self, n: int) -> Origins:
        """Drop the record of the oldest `n` bytes; return their origins."""
        found: Origins = frozenset()
        while n:
            origins, length = self._runs[0]
            found = found | origins if found else origins
            if n < length:
                self._runs[0] = origins, length - n
                break
            self._runs.popleft()
            n -= length
        return found

    def _parts(self, start: int, n: int) -> tuple[memoryview, memoryview]:
        """Return the `n` bytes from `start` as two parts; one can be empty."""
        start %= self.capacity_bytes
        first = min(n, self.capacity_bytes - start)
        return self._ring[start : start + first], self._ring[: n - first]

    def _mark(self) -> None:
        if self._level < self._low_mark:
            self.wanted = True
        elif self._level >= self._high_mark:
            self.wanted = False
