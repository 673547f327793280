"""The reservoir: our store of full-entropy bytes. What is taken is gone (law 2).

One ring, allocated once, and a record of which sources went into which of its bytes. Bytes leave in the order in
which they came, and the memory they leave is zeroed before the caller sees them (law 7). There is no way to look at a
byte without taking it.
"""

from collections import deque

from drawwell.entropy.blocks import FullEntropy, Origins
from drawwell.errors import Starved


class Reservoir:
    """A ring of `capacity_bytes`.

    Args:
        capacity_bytes: Size of the ring, allocated here and never again.
        low_mark: Level in bytes below which the reservoir starts to want more.
        high_mark: Level in bytes at which it stops to want more.

    Raises:
        ValueError: not ``0 < low_mark <= high_mark <= capacity_bytes``.
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
        """From when the level falls below the low mark until it is at the high mark."""
        self._runs: deque[tuple[Origins, int]] = deque()

    def __len__(self) -> int:
        return self._level

    def __repr__(self) -> str:
        return f"<Reservoir {self._level} of {self.capacity_bytes} bytes>"

    @property
    def free_bytes(self) -> int:
        """How much `put` would accept now."""
        return self.capacity_bytes - self._level

    def put(self, block: FullEntropy) -> int:
        """Move `block` in, and zero it; return the bytes accepted. The rest is discarded, not kept for later."""
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
        """Remove the oldest `n` bytes and return them; the caller overwrites them after use.

        Raises:
            Starved: fewer than `n` bytes are here; none was taken.
            ValueError: `n` is negative.
        """
        if n < 0:
            raise ValueError("cannot take less than nothing")
        if n > self._level:
            raise Starved(f"the reservoir holds {self._level} of {n} bytes")
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
        """Zero everything and return how many bytes were lost by it."""
        lost = self._level
        self._ring[:] = bytes(self.capacity_bytes)
        self._start = self._level = 0
        self._runs.clear()
        self._mark()
        return lost

    def _note(self, origins: Origins, n: int) -> None:
        """Record where the newest `n` bytes come from."""
        if not n:
            return
        if self._runs and self._runs[-1][0] == origins:
            n += self._runs.pop()[1]
        self._runs.append((origins, n))

    def _forget(self, n: int) -> Origins:
        """Drop the record of the oldest `n` bytes; return the sources that went into any of them."""
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
        """Return the one or two pieces of the ring that hold `n` bytes from `start` on."""
        start %= self.capacity_bytes
        first = min(n, self.capacity_bytes - start)
        return self._ring[start : start + first], self._ring[: n - first]

    def _mark(self) -> None:
        if self._level < self._low_mark:
            self.wanted = True
        elif self._level >= self._high_mark:
            self.wanted = False
