"""Deterministic, endless faulty noise sources, and a good one to compare.

Each is a `SickStream`: `read(n)` returns the next n samples, or fewer once the source is dead.
Equal arguments give equal samples on every machine and in every version. Use them only in
tests: they are not noise sources.
"""

from collections.abc import Iterator
from hashlib import shake_128
from itertools import chain, count, repeat
from typing import Final

_CHUNK_BYTES: Final = 4096


class SickStream:
    """Samples that can be read once, in pieces of any size."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._held = bytearray()

    def read(self, n_bytes: int) -> bytes:
        """Return the next `n_bytes` samples, or fewer if the source dies."""
        while len(self._held) < n_bytes and (chunk := next(self._chunks, b"")):
            self._held += chunk
        samples = bytes(self._held[:n_bytes])
        del self._held[:n_bytes]
        return samples

    def __iter__(self) -> Iterator[bytes]:
        """Yield all remaining samples in chunks."""
        if self._held:
            yield self.read(len(self._held))
        yield from self._chunks


def good(seed: int = 0) -> SickStream:
    """Make samples with 8 bits of entropy each, as far as tests can detect."""
    return SickStream(shake_128(b"good %d %d" % (seed, n)).digest(_CHUNK_BYTES) for n in count())


def stuck(value: int = 0) -> SickStream:
    """Repeat one value forever."""
    return SickStream(repeat(bytes([value]) * _CHUNK_BYTES))


def counter(start: int = 0, step: int = 1) -> SickStream:
    """Count upwards: the values are balanced but contain no noise."""
    cycle = bytes((start + step * n) % 256 for n in range(256))
    return SickStream(repeat(cycle))


def loop(period: int, seed: int = 0) -> SickStream:
    """Repeat the same `period` good samples forever."""
    return SickStream(repeat(good(seed).read(period)))


def biased(p_one: float, seed: int = 0) -> SickStream:
    """Make independent bits with P(1) = `p_one`, to 16 binary digits."""
    digits = [int(p_one * 2**place) % 2 for place in range(16, 0, -1)]  # least significant first
    return SickStream(_bits_with(digits, b"biased %d %d" % (seed, n)) for n in count())


def replaying(at: int, distance: int, length: int, seed: int = 0) -> SickStream:
    """Make good samples, but repeat `length` earlier ones, starting at `at`.

    The earlier samples were returned `distance` samples before.

    Raises:
        ValueError: not `length` <= `distance` <= `at`.
    """
    if not 0 < length <= distance <= at:
        raise ValueError("a replay requires length <= distance <= at")
    samples = good(seed)
    past = samples.read(at)
    return spliced(past + past[at - distance :][:length], samples)


def spliced(head: bytes, then: SickStream) -> SickStream:
    """Return `head`, then `then`: the source changes at a known sample."""
    return SickStream(chain([head] if head else [], then))


def dead_after(n_bytes: int, seed: int = 0) -> SickStream:
    """Make `n_bytes` good samples and then none."""
    return spliced(good(seed).read(n_bytes), SickStream(iter(())))


def _bits_with(digits: list[int], label: bytes) -> bytes:
    """Combine a fair draw per digit into biased bits: OR for 1, AND for 0."""
    bits = 0
    for place, digit in enumerate(digits):
        fair = int.from_bytes(shake_128(label + b" %d" % place).digest(_CHUNK_BYTES), "big")
        bits = bits | fair if digit else bits & fair
    return bits.to_bytes(_CHUNK_BYTES, "big")
