"""The repeat test: nothing that a noise source gave comes a second time. drawwell's own design.

A loop of a good recording passes the repetition count and adaptive proportion tests for ever. This
test keeps keyed hashes of every window of w bytes that starts at a multiple of w in the last 1 MiB,
slides over every position of the stream, and fires when a whole window comes again. w follows from
H, the reach and the false-alarm rate (`cutoffs.repeat_window`): 12 bytes at H = 6.

What it promises, for bytes with no regard to alignment:

* A replay of 2w - 1 bytes (23) out of the last 1 MiB fires on the last of them at the latest: that
  many bytes hold a whole window that starts at a multiple of w.
* A loop of period p, 1 byte to 1 MiB, fires within its first p + 2w - 1 samples, and is permanent
  within p + L + w - 1, L being the permanent cutoff of 1,024 bytes in whole windows.
* Good noise fires with at most 2**20 * ceil(2**20 / w) * (2**-128 + 2**(-H * w)) a MiB, which is
  2**-30 or less. A repeat is thus never chance; a short one can still be a glitch of the transport,
  so it is intermittent, and permanent when it goes on for L bytes or comes a third time in ten
  minutes.

It holds no sample but the last w - 1. What it keeps of the others, for w bytes, are a code and two
hashes. The code is four bits of each of the first eight bytes, by a secret table; every position's
code is looked up, which is cheap. The hashes are the interpreter's keyed 64-bit ones after two secret
substitutions; they decide, and are asked only where a code is known. The memory outlives failures,
reconnects and resets (law 11). Landmarks (landmarks.py) find repeats from further back.
"""

import hashlib
import struct
from array import array
from collections import Counter
from functools import cache
from typing import Final

from drawwell.entropy.continuous import Alarm, Cutoffs, HealthTest
from drawwell.entropy.cutoffs import REPEAT_REACH, repeat_permanent_cutoff, repeat_window

_PIECE: Final = 4096  # positions looked at in one go; no finding depends on it


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
        """Look up every window; return the cutoffs met, each with its window's offset."""
        positions = len(piece) - self._width + 1
        start, self._position = self._position, self._position + positions
        aligned = range(-start % self._width, positions, self._width)
        suspects = self._known.suspects(piece, aligned)
        if not suspects and self._known.add_all(piece, aligned, start):
            return []
        return [
            (cutoff, offset)
            for offset in sorted({*suspects, *aligned})
            if (cutoff := self._look(start + offset, piece[offset : offset + self._width]))
        ]

    def _look(self, position: int, window: bytes) -> int:
        """Judge a window, and remember an aligned one; return the cutoff met, 0 for none."""
        seen = self._known.holds(position, window)
        if position % self._width == 0:
            self._known.add(position, window)
        if not seen:
            return 0
        goes_on = position - self._last <= self._width
        before = self._last - self._first + self._width if goes_on else 0
        self._first, self._last = self._first if goes_on else position, position
        length = self._last - self._first + self._width
        self.worst = max(self.worst, length)
        return self.cutoffs.crossed(before, length)


@cache
def _words(width: int, count: int) -> struct.Struct:
    """Read the first eight bytes of each of `count` windows as a number."""
    return struct.Struct("=" + f"q{width - 8}x" * count)


@cache
def _windows(width: int, count: int) -> struct.Struct:
    return struct.Struct(f"{width}s" * count)


class _KnownWindows:
    """What is kept of the aligned windows within reach, in a ring of slots.

    `_known` has their codes and is looked up; the slots, which are searched on a hit, have all.
    `_twice` counts the further slots of a code that more than one has.
    """

    def __init__(self, width: int, hash_key: bytes) -> None:
        self._width = width
        self._slots = (REPEAT_REACH + _PIECE) // width + 2  # a piece adds its windows before it is through
        self._codes, self._firsts, self._seconds = (array("q", [0]) * self._slots for _ in range(3))
        self._known: set[int] = set()
        self._twice: Counter[int] = Counter()
        self._coding = bytes(rank % 16 for rank in _substitution(hash_key, 0))
        self._masks = tuple(_substitution(hash_key, number) for number in (1, 2))

    def __len__(self) -> int:
        return len(self._known)

    def suspects(self, piece: bytes, aligned: range) -> list[int]:
        """Return the offsets whose codes are known, or are those of aligned windows of the piece."""
        coded = piece.translate(self._coding)
        own = self._codes_from(coded, aligned.start)
        new, found = set(own), list[int]()
        if len(new) < len(own):
            found += aligned
        for offset in range(min(self._width, len(piece) - self._width + 1)):
            codes = self._codes_from(coded, offset)
            others = frozenset[int]() if offset == aligned.start else new
            if not (self._known.isdisjoint(codes) and others.isdisjoint(codes)):
                starts = range(offset, len(piece), self._width)
                pairs = zip(starts, codes, strict=False)
                found += [at for at, code in pairs if code in self._known or code in others]
        return found

    def add_all(self, piece: bytes, aligned: range, start: int) -> bool:
        """Remember the aligned windows of a piece without suspects, unless the ring ends in it."""
        slot = (start + aligned.start) // self._width % self._slots
        slots = slice(slot, slot + len(aligned))
        if slots.stop > self._slots:
            return False
        codes = array("q", self._codes_from(piece.translate(self._coding), aligned.start))
        self._forget(self._codes[slots])
        self._known.update(codes)
        self._codes[slots] = codes
        for hashes, mask in zip((self._firsts, self._seconds), self._masks, strict=True):
            windows = _windows(self._width, len(aligned)).unpack_from(piece.translate(mask), aligned.start)
            hashes[slots] = array("q", map(hash, windows))
        return True

    def holds(self, position: int, window: bytes) -> bool:
        """Did the same window start at a multiple of w before `position`, within reach?"""
        if (code := self._code(window)) not in self._known:
            return False
        first, second = self._hashes(window)
        newest, slot = (position - 1) // self._width, -1
        for _ in range(1 + self._twice[code]):
            slot = self._codes.index(code, slot + 1)
            started = (newest - (newest - slot) % self._slots) * self._width
            if (self._firsts[slot], self._seconds[slot]) == (first, second):
                return position - started <= REPEAT_REACH
        return False

    def add(self, position: int, window: bytes) -> None:
        """Remember an aligned window in place of the oldest one."""
        slot = position // self._width % self._slots
        self._forget(self._codes[slot : slot + 1])
        code = self._code(window)
        if code in self._known:
            self._twice[code] += 1
        self._known.add(code)
        self._codes[slot] = code
        self._firsts[slot], self._seconds[slot] = self._hashes(window)

    def _forget(self, codes: "array[int]") -> None:
        """Free slots by their codes; 0 is that of slots which were never filled."""
        if self._twice.keys().isdisjoint(codes):
            self._known.difference_update(codes)
            return
        for code in codes:
            if code not in self._twice:
                self._known.discard(code)
            elif self._twice[code] > 1:
                self._twice[code] -= 1
            else:
                del self._twice[code]

    def _codes_from(self, coded: bytes, offset: int) -> tuple[int, ...]:
        """Return the codes of every width-th window from `offset` on."""
        return _words(self._width, (len(coded) - offset) // self._width).unpack_from(coded, offset)

    def _code(self, window: bytes) -> int:
        (code,) = self._codes_from(window.translate(self._coding), 0)
        return code

    def _hashes(self, window: bytes) -> tuple[int, ...]:
        return tuple(hash(window.translate(mask)) for mask in self._masks)


def _substitution(key: bytes, number: int) -> bytes:
    """Make a secret permutation of the 256 bytes."""
    salt = bytes([number])
    ranks = [
        hashlib.blake2b(bytes([value]), key=key, digest_size=16, salt=salt).digest() for value in range(256)
    ]
    return bytes(sorted(range(256), key=lambda value: ranks[value]))
