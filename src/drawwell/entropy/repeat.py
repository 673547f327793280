"""drawwell's own repeat test: a noise source must not repeat bytes.

A loop of a good recording passes the repetition count and adaptive proportion tests forever.
This test divides the last 1 MiB into windows of w bytes, at multiples of w, and stores keyed
hashes of each. It compares the window at every new position with them, and fires on a repeat.
H, the reach and the false alarm rate determine w (`cutoffs.repeat_window`): 12 for H = 6.

Guarantees, at any alignment:

* A replay of 2w - 1 bytes from the last 1 MiB fires on its last byte or earlier, because it
  contains a whole window that starts at a multiple of w.
* A loop with a period p of 1 byte to 1 MiB fires within its first p + 2w - 1 samples. It fires
  permanently within p + L + w - 1, where L is the permanent cutoff: 1,024 bytes, rounded up to
  whole windows.
* In each MiB, good noise fires with a probability of at most
  2**20 * ceil(2**20 / w) * (2**-128 + 2**(-H * w)), which is 2**-30 or less. So a repeat is
  never chance. A short repeat can be a transport glitch, so it is an intermittent failure. A
  repeat of L bytes, or the third one within ten minutes, is a permanent failure.

Only the last w - 1 samples are stored. Each earlier window is stored as a code and two hashes.
The code is four bits of each of the first eight bytes, from a secret table; looking it up at
every position is cheap. If the code is known, the hashes decide. They are the interpreter's
keyed 64-bit hashes after two secret substitutions. The stored windows outlive failures,
reconnects and resets (law 11). landmarks.py finds repeats from further back.
"""

import hashlib
import struct
from array import array
from collections import Counter
from functools import cache
from typing import Final

from drawwell.entropy.continuous import Alarm, Cutoffs, HealthTest
from drawwell.entropy.cutoffs import REPEAT_REACH, repeat_permanent_cutoff, repeat_window

_PIECE: Final = 4096  # positions processed at a time; does not affect results


_CODE: Final = struct.Struct("=I")


class RepeatTest(HealthTest):
    """A test that fires when *cutoff* bytes in a row are a repeat.

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
        self._position = 0  # of the tail's first byte in the stream
        self._first = self._last = -2 * width  # start of the current repeat, and its last window

    def _examine(self, samples: bytes) -> Alarm | None:
        stream, begun = self._tail + samples, self._position + len(self._tail)
        positions = max(0, len(stream) - self._width + 1)
        alarm = None
        for at in range(0, positions, _PIECE):
            for cutoff, position in self._slide(stream[at : at + _PIECE + self._width - 1]):
                found = self._alarm(cutoff, position + self._width - 1 - begun)
                alarm = alarm.or_worse(found) if alarm else found
        self._tail = stream[positions:]
        return alarm

    def forget(self) -> None:
        self._first = self._last = -2 * self._width

    def describe(self, count: int) -> str:
        return f"{count} bytes in a row repeat earlier bytes"

    def _slide(self, piece: bytes) -> list[tuple[int, int]]:
        """Look up every window; return the reached cutoffs with positions.

        A piece with a suspect window is halved until few windows are left to look up singly.
        """
        start, count = self._position, len(piece) - self._width + 1
        if count > self._width:
            if self._known.add_all(piece, start):
                self._position += count
                return []
            half = count // 2
            return self._slide(piece[: half + self._width - 1]) + self._slide(piece[half:])
        self._position += count
        windows = [(start + at, piece[at : at + self._width]) for at in range(count)]
        return [(cutoff, at) for at, window in windows if (cutoff := self._look(at, window))]

    def _look(self, position: int, window: bytes) -> int:
        """Test a window, and store it if aligned; return the cutoff reached, or 0."""
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
def _words32(width: int, count: int) -> struct.Struct:
    """Return a parser for the first four bytes of each of `count` windows."""
    return struct.Struct("=" + f"I{width - 4}x" * count)


@cache
def _windows(width: int, count: int) -> struct.Struct:
    return struct.Struct(f"{width}s" * count)


class _KnownWindows:
    """The stored aligned windows within reach, in a ring of slots.

    `_known` has all codes, for a fast look-up; slots are searched only for a known code.
    `_twice` counts the additional slots that have the same code.
    """

    def __init__(self, width: int, hash_key: bytes) -> None:
        self._width = width
        self._slots = (REPEAT_REACH + _PIECE) // width + 2  # a piece adds all its windows first
        self._codes, self._firsts, self._seconds = (array(kind) for kind in "Iqq")  # grow to the ring's size
        self._known: set[int] = set()
        self._twice: Counter[int] = Counter()
        self._coding = bytes(rank % 16 for rank in _substitution(hash_key, 0))
        self._masks = tuple(_substitution(hash_key, number) for number in (1, 2))

    def __len__(self) -> int:
        return len(self._known)

    def add_all(self, piece: bytes, start: int) -> bool:
        """Store a piece's aligned windows unless one is suspect or the ring wraps."""
        first = -start % self._width
        coded = self._coded(piece)
        codes = self._codes_from(coded, first)
        slot = (start + first) // self._width % self._slots
        slots = slice(slot, slot + len(codes))
        if slots.stop > self._slots or not self._known.isdisjoint(codes):
            return False
        self._known.update(codes)  # to look up old and new codes at once
        others = (self._codes_from(coded, offset) for offset in range(self._width) if offset != first)
        if len({*codes}) < len(codes) or not all(map(self._known.isdisjoint, others)):
            self._known.difference_update(codes)
            return False
        self._forget(self._codes[slots])
        self._codes[slots] = array("I", codes)
        for hashes, mask in zip((self._firsts, self._seconds), self._masks, strict=True):
            windows = _windows(self._width, len(codes)).unpack_from(piece.translate(mask), first)
            hashes[slots] = array("q", map(hash, windows))
        return True

    def holds(self, position: int, window: bytes) -> bool:
        """Return whether an equal aligned window within reach precedes `position`."""
        if (code := self._code(window)) not in self._known:
            return False
        first, second = self._hashes(window)
        newest, slot = (position - 1) // self._width, -1
        for _ in range(1 + self._twice[code]):
            slot = self._slot_of(code, slot + 1)
            started = (newest - (newest - slot) % self._slots) * self._width
            if (self._firsts[slot], self._seconds[slot]) == (first, second):
                return position - started <= REPEAT_REACH
        return False

    def _slot_of(self, code: int, after: int) -> int:
        """Return the first slot with this code, starting at slot `after`."""
        codes, wanted = self._codes.tobytes(), _CODE.pack(code)
        at = codes.index(wanted, after * _CODE.size)
        while at % _CODE.size:
            at = codes.index(wanted, at + 1)
        return at // _CODE.size

    def add(self, position: int, window: bytes) -> None:
        """Store an aligned window in the slot of the oldest one."""
        slot = position // self._width % self._slots
        slots = slice(slot, slot + 1)
        self._forget(self._codes[slots])
        code = self._code(window)
        if code in self._known:
            self._twice[code] += 1
        self._known.add(code)
        self._codes[slots] = array("I", [code])
        for hashes, one in zip((self._firsts, self._seconds), self._hashes(window), strict=True):
            hashes[slots] = array("q", [one])

    def _forget(self, codes: "array[int]") -> None:
        """Remove the codes of slots that will be overwritten."""
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

    def _coded(self, piece: bytes) -> bytes:
        """Return bytes with the code of each window at its position."""
        halves = int.from_bytes(piece.translate(self._coding), "little")
        return (halves | halves >> 4 * 7).to_bytes(
            len(piece), "little"
        )  # joins the four bits of each byte with those of the fourth byte after it

    def _codes_from(self, coded: bytes, offset: int) -> tuple[int, ...]:
        """Return the codes of adjacent windows, starting at `offset`."""
        return _words32(self._width, (len(coded) - offset) // self._width).unpack_from(coded, offset)

    def _code(self, window: bytes) -> int:
        (code,) = self._codes_from(self._coded(window), 0)
        return code

    def _hashes(self, window: bytes) -> tuple[int, ...]:
        return tuple(hash(window.translate(mask)) for mask in self._masks)


def _substitution(key: bytes, number: int) -> bytes:
    """Create a secret permutation of the 256 byte values."""
    salt = bytes([number])
    ranks = [
        hashlib.blake2b(bytes([value]), key=key, digest_size=16, salt=salt).digest() for value in range(256)
    ]
    return bytes(sorted(range(256), key=lambda value: ranks[value]))
