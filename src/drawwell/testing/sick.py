"""Sick noise sources, and a good one to hold against them: deterministic, endless, and never random.

Each is a `SickStream`: `read(n)` gives the next n samples, fewer once the source is dead. The same arguments give the
same samples on every machine and version. For tests only: nothing here is a noise source.
"""

from collections.abc import Iterator
from hashlib import shake_128
from itertools import chain, count, repeat
from typing import Final

_CHUNK_BYTES: Final = 4096


class SickStream:
    """Samples that are read in any sizes; what was read is gone."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._held = bytearray()

    def read(self, n_bytes: int) -> bytes:
        """Return the next `n_bytes` samples, fewer when the source dies before."""
        while len(self._held) < n_bytes and (chunk := next(self._chunks, b"")):
            self._held += chunk
        samples = bytes(self._held[:n_bytes])
        del self._held[:n_bytes]
        return samples

    def __iter__(self) -> Iterator[bytes]:
        """Give all that is left, in pieces."""
        if self._held:
            yield self.read(len(self._held))
        yield from self._chunks


def good(seed: int = 0) -> SickStream:
    """Eight bits of entropy a byte, as far as any test here can tell."""
    return SickStream(shake_128(b"good %d %d" % (seed, n)).digest(_CHUNK_BYTES) for n in count())


def stuck(value: int = 0) -> SickStream:
    """One value for ever."""
    return SickStream(repeat(bytes([value]) * _CHUNK_BYTES))


def counter(start: int = 0, step: int = 1) -> SickStream:
    """Values that count: balanced, and no noise at all."""
    cycle = bytes((start + step * n) % 256 for n in range(256))
    return SickStream(repeat(cycle))


def loop(period: int, seed: int = 0) -> SickStream:
    """`period` good samples, over and over."""
    return SickStream(repeat(good(seed).read(period)))


def biased(p_one: float, seed: int = 0) -> SickStream:
    """Independent bits that are one with probability `p_one`, to 16 binary digits."""
    digits = [int(p_one * 2**place) % 2 for place in range(16, 0, -1)]  # the least significant first
    return SickStream(_bits_with(digits, b"biased %d %d" % (seed, n)) for n in count())


def replaying(at: int, distance: int, length: int, seed: int = 0) -> SickStream:
    """Good, but for the `length` samples from sample `at` on, which were given `distance` samples before.

    Raises:
        ValueError: not `length` <= `distance` <= `at`.
    """
    if not 0 < length <= distance <= at:
        raise ValueError("a replay needs length <= distance <= at")
    samples = good(seed)
    past = samples.read(at)
    return spliced(past + past[at - distance :][:length], samples)


def spliced(head: bytes, then: SickStream) -> SickStream:
    """Give `head` first: a source that falls sick, or recovers, at a known sample."""
    return SickStream(chain([head] if head else [], then))


def dead_after(n_bytes: int, seed: int = 0) -> SickStream:
    """Good for `n_bytes` samples, then none."""
    return spliced(good(seed).read(n_bytes), SickStream(iter(())))


def _bits_with(digits: list[int], label: bytes) -> bytes:
    """Fold one fair draw a digit into bits of that probability: an or for a one, an and for a zero."""
    bits = 0
    for place, digit in enumerate(digits):
        fair = int.from_bytes(shake_128(label + b" %d" % place).digest(_CHUNK_BYTES), "big")
        bits = bits | fair if digit else bits & fair
    return bits.to_bytes(_CHUNK_BYTES, "big")
