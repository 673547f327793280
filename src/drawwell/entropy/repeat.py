"""The repeat test: nothing that a noise source gave comes a second time. drawwell's own design.

A loop of a good recording passes the repetition count and adaptive proportion tests for ever. This test keeps a
keyed hash of every window of w bytes that starts at a multiple of w in the last 1 MiB, slides over every
position of the stream, and fires when a whole window comes again. w = 32 down to H = 65/32 bits a byte, and
`cutoffs.repeat_window` below that.

What it promises, for bytes with no regard to alignment:

* A replay of 2w - 1 bytes (63) out of the last 1 MiB fires on the last of them at the latest: so many bytes hold
  a whole window that starts at a multiple of w. When H is too low for w = 32, 64 bytes become 2w - 1.
* A loop of period p, 1 byte to 1 MiB, fires within its first p + 2w - 1 samples (p + 63), and is permanent within
  p + L + w - 1 (p + 1,055), L being the permanent cutoff of 1,024 bytes.
* Good noise fires with at most 2**20 * ceil(2**20 / w) * (2**-128 + 2**(-H * w)) a MiB: 2**-93 at H = 6, never
  more than 2**-30. A repeat is thus never chance; one short one can still be a hiccup of the transport, so it
  is intermittent, and permanent when it goes on for L bytes or comes a third time in ten minutes.

It holds no sample but the last w - 1. What it keeps of the others are hashes of w bytes each under its own key:
BLAKE2b of 128 bits, which decides, and CPython's 64-bit hash of the window after a keyed substitution of its
bytes, which is only asked first. The memory outlives failures, reconnects and resets (law 11).
"""

import hashlib
from typing import Final

from drawwell.entropy.continuous import Alarm, Cutoffs, HealthTest
from drawwell.entropy.cutoffs import (
    REPEAT_DIGEST_BITS,
    REPEAT_REACH,
    repeat_permanent_cutoff,
    repeat_window,
)

_PIECE: Final = 1024  # positions looked at in one go; no finding depends on it
_DIGEST_BYTES: Final = REPEAT_DIGEST_BITS // 8


class RepeatTest(HealthTest):
    """Fires when *cutoff* bytes in a row have come before.

    Args:
        min_entropy: Claimed bits of min-entropy per byte.
        hash_key: 16 to 64 secret bytes for the hashes.
    """

    name: Final = "repeat"

    def __init__(self, min_entropy: float, *, hash_key: bytes) -> None:
        width = repeat_window(min_entropy)
        super().__init__(
            min_entropy, "byte", REPEAT_REACH, Cutoffs(width, repeat_permanent_cutoff(min_entropy))
        )
        self._width = width
        self._known = _KnownWindows(width, hash_key)
        self._slices = [slice(at, at + width) for at in range(_PIECE)]
        self._tail = b""
        self._position = 0  # of the first byte of the tail in the stream
        self._first = self._last = -2 * width  # where the current repeat began, and its last window

    def _examine(self, samples: bytes) -> Alarm | None:
        stream = self._tail + samples
        positions = max(0, len(stream) - self._width + 1)
        alarm = None
        for at in range(0, positions, _PIECE):
            piece = stream[at : at + _PIECE + self._width - 1]
            for cutoff, offset in self._slide(piece):
                found = self._alarm(cutoff, at + offset + self._width - 1 - len(self._tail))
                alarm = alarm.or_worse(found) if alarm else found
        self._tail = stream[positions:]
        return alarm

    def forget(self) -> None:
        self._first = self._last = -2 * self._width

    def describe(self, count: int) -> str:
        return f"{count} bytes in a row that had come before"

    def _slide(self, piece: bytes) -> list[tuple[int, int]]:
        """Look at every window of the piece; return cutoffs met, each with the offset of its window."""
        positions = len(piece) - self._width + 1
        start, self._position = self._position, self._position + positions
        masked = self._known.masked(piece)
        marks = [*map(hash, map(masked.__getitem__, self._slices[:positions]))]
        aligned = slice(-start % self._width, None, self._width)
        if self._known.none_of(marks, aligned):
            for offset in range(positions)[aligned]:
                self._known.add(start + offset, marks[offset], piece[offset : offset + self._width])
            return []
        return [
            (cutoff, offset)
            for offset, mark in enumerate(marks)
            if (cutoff := self._look(start + offset, mark, piece[offset : offset + self._width]))
        ]

    def _look(self, position: int, mark: int, window: bytes) -> int:
        """Judge one window, and remember it when it is aligned; return the cutoff that it meets, 0 for none."""
        seen = self._known.holds(position, mark, window)
        if position % self._width == 0:
            self._known.add(position, mark, window)
        if not seen:
            return 0
        goes_on = position - self._last <= self._width
        before = self._last - self._first + self._width if goes_on else 0
        self._first, self._last = self._first if goes_on else position, position
        length = self._last - self._first + self._width
        self.worst = max(self.worst, length)
        return self.cutoffs.crossed(before, length)


class _KnownWindows:
    """Keyed hashes of the aligned windows within reach, in a ring.

    A window's mark is a quick hash that asks first, its digest the one that decides.
    """

    def __init__(self, width: int, hash_key: bytes) -> None:
        self._width = width
        self._slots = (REPEAT_REACH + _PIECE) // width + 2  # a piece adds its windows before it is through
        self._digests = bytearray(_DIGEST_BYTES * self._slots)
        self._marks = [0] * self._slots
        self._positions: dict[int, int] = {}  # mark -> where its last window started
        self._hash = hashlib.blake2b(key=hash_key, digest_size=_DIGEST_BYTES)
        self._substitution = bytes(sorted(range(256), key=lambda value: self._digest(bytes([value]))))

    def masked(self, piece: bytes) -> bytes:
        """Substitute the bytes under the key, so that marks are keyed whatever PYTHONHASHSEED says."""
        return piece.translate(self._substitution)

    def none_of(self, marks: list[int], aligned: slice) -> bool:
        """Tell whether surely no window repeats a known one or an aligned one of its own piece."""
        if not self._positions.keys().isdisjoint(marks):
            return False
        own = marks[aligned]
        others = marks.copy()
        del others[aligned]
        unique = set(own)
        return len(unique) == len(own) and unique.isdisjoint(others)

    def holds(self, position: int, mark: int, window: bytes) -> bool:
        """Tell whether the same window started at a multiple of w before `position`, within reach."""
        known = self._positions.get(mark)
        if known is None or position - known > REPEAT_REACH:
            return False
        at = known // self._width % self._slots * _DIGEST_BYTES
        return self._digests[at : at + _DIGEST_BYTES] == self._digest(window)

    def add(self, position: int, mark: int, window: bytes) -> None:
        """Remember an aligned window in place of the oldest one."""
        slot = position // self._width % self._slots
        if self._positions.get(self._marks[slot]) == position - self._slots * self._width:
            del self._positions[self._marks[slot]]
        self._marks[slot] = mark
        self._positions[mark] = position
        self._digests[slot * _DIGEST_BYTES : (slot + 1) * _DIGEST_BYTES] = self._digest(window)

    def _digest(self, window: bytes) -> bytes:
        keyed = self._hash.copy()
        keyed.update(window)
        return keyed.digest()
