"""The FIPS 140-2 block tests, as Debian's rngtest (rng-tools-debian 2.3, rng-tools 6.8 and later) runs them.

FIPS 140-2, section 4.9.1, with change notice 1 of 2001-10-10, over blocks of 20,000 bits; the continuous test
of section 4.9.2 over 32-bit words. NIST took the block tests out of the standard in 2002: they find a broken
source quickly and say nothing about entropy. Any seeded generator passes them, and so does a loop of 4,096
bytes.

A block is one integer of 20,000 bits, first bit on top, and every count is the population count of a few
shifted copies of it: plain Python does about twice the work of the C program in the same time. For long
streams, where NumPy and Numba are installed, `fips140_compiled` finds the same verdicts another ten times faster.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Final

from drawwell.assess.fips140.verdict import BLOCK_BYTES, MONOBIT, PASS, POKER, RUNS, WORD_BYTES, BlockVerdict

COMPILED_FROM_BYTES: Final = 32_000_000
"""Measured: from here on the compiled loops save more time than it takes to load them."""

Judge = Callable[[bytes | memoryview, int], bytes]
"""Judges whole blocks after a word, the second argument; one byte for each, its verdict's value."""

_BITS: Final = 8 * BLOCK_BYTES
_ALL: Final = (1 << _BITS) - 1
_WORD: Final = (1 << 32) - 1

# The four quarters of a block as rows of a 4 by 4 transposition of its nibbles' bits.
_QUARTER: Final = _BITS // 4
_QUARTER_ALL: Final = (1 << _QUARTER) - 1
_EVEN_BITS: Final = _QUARTER_ALL // 0b11
_EVEN_PAIRS: Final = _QUARTER_ALL // 0b1111 * 0b11
_NIBBLES: Final = _BITS // 4


@dataclass(slots=True)
class VerdictTally:
    """Verdicts counted: blocks passed, blocks failed, and how often each test failed."""

    successes: int = 0
    failures: int = 0
    failed: dict[BlockVerdict, int] = field(default_factory=lambda: dict.fromkeys(BlockVerdict, 0))

    @property
    def blocks(self) -> int:
        """How many blocks were judged."""
        return self.successes + self.failures

    def add(self, verdict: BlockVerdict, blocks: int = 1) -> None:
        """Count `blocks` blocks of one verdict."""
        if verdict == PASS:
            self.successes += blocks
            return
        self.failures += blocks
        for test in verdict:
            self.failed[test] += blocks

    def add_many(self, verdicts: bytes) -> None:
        """Count the verdicts of `BlockTester.judge_many`."""
        for verdict, blocks in Counter(verdicts).items():
            self.add(BlockVerdict(verdict), blocks)


class BlockTester:
    """Judges a stream block by block; the continuous test reaches from each block into the next.

    Args:
        bootstrap: The four bytes before the first block: compared with, never judged.
    """

    def __init__(self, bootstrap: bytes) -> None:
        if len(bootstrap) != WORD_BYTES:
            raise ValueError(f"the bootstrap word is {WORD_BYTES} bytes, not {len(bootstrap)}")
        self._last_word = int.from_bytes(bootstrap, "big")
        self._compiled: Judge | None = None

    def prepare(self, stream_bytes: int) -> None:
        """Load the compiled loops, if they are here and a stream of that length is worth the wait."""
        if stream_bytes >= COMPILED_FROM_BYTES:
            self._compiled = _compiled()

    def judge_many(self, blocks: bytes | memoryview) -> bytes:
        """Judge the next whole blocks; return one byte for each, the value of its `BlockVerdict`.

        Raises:
            ValueError: not a multiple of 2,500 bytes.
        """
        if len(blocks) % BLOCK_BYTES:
            raise ValueError(f"a block is {BLOCK_BYTES} bytes: {len(blocks)} are not whole blocks")
        if not blocks or self._compiled is None:
            return bytes(
                self.judge(blocks[at : at + BLOCK_BYTES]) for at in range(0, len(blocks), BLOCK_BYTES)
            )
        verdicts = self._compiled(blocks, self._last_word)
        self._last_word = int.from_bytes(blocks[-WORD_BYTES:], "big")
        return verdicts

    def judge(self, block: bytes | memoryview) -> BlockVerdict:
        """Judge the next 2,500 bytes.

        Raises:
            ValueError: not one whole block.
        """
        if len(block) != BLOCK_BYTES:
            raise ValueError(f"a block is {BLOCK_BYTES} bytes, not {len(block)}")
        bits = int.from_bytes(block, "big")
        ones, zeros = _windows(bits), _windows(bits ^ _ALL)
        verdict = PASS
        if ones[0].bit_count() not in MONOBIT:
            verdict |= BlockVerdict.MONOBIT
        if poker_sum(bits) not in POKER:
            verdict |= BlockVerdict.POKER
        if not (_runs_pass(ones) and _runs_pass(zeros)):
            verdict |= BlockVerdict.RUNS
        if _has_26(ones[6] | zeros[6]) and (_has_26(ones[6]) or _has_26(zeros[6])):
            verdict |= BlockVerdict.LONG_RUN
        if _repeats_word(bits, self._last_word):
            verdict |= BlockVerdict.CONTINUOUS_RUN
        self._last_word = bits & _WORD
        return verdict


@cache
def _compiled() -> Judge | None:
    """Load the compiled loops, if NumPy and Numba are here: half a second, and seconds the very first time."""
    try:
        from drawwell.assess import jit  # noqa: PLC0415
        from drawwell.assess.fips140 import compiled  # noqa: PLC0415
    except ImportError:
        return None
    if not jit.COMPILED:
        return None
    compiled.judge(bytes(BLOCK_BYTES), 0)  # Numba loads, or makes, what is called
    return compiled.judge


def _windows(bits: int) -> list[int]:
    """Marks, for k = 1 to 7, where k ones in a row begin."""
    marks = [bits]
    for _ in range(6):
        bits &= bits >> 1
        marks.append(bits)
    return marks


def _runs_pass(windows: list[int]) -> bool:
    """A run of n ones holds n - k + 1 windows of k: second differences count the runs of exactly k."""
    w1, w2, w3, w4, w5, w6, w7 = (marks.bit_count() for marks in windows)
    r1, r2, r3, r4, r5, r6 = RUNS
    return (
        w1 - 2 * w2 + w3 in r1
        and w2 - 2 * w3 + w4 in r2
        and w3 - 2 * w4 + w5 in r3
        and w4 - 2 * w5 + w6 in r4
        and w5 - 2 * w6 + w7 in r5
        and w6 - w7 in r6
    )


def _has_26(windows_of_7: int) -> bool:
    """Are there 26 in a row? Exact for one colour."""
    thirteen = windows_of_7 & windows_of_7 >> 6
    return bool(thirteen & thirteen >> 13)


def poker_sum(bits: int) -> int:
    """Sum of the squared counts of the 16 nibble values, by Parseval's theorem over the Walsh transform."""
    p, q, r, s = _nibble_planes(bits)
    pq, rs = p ^ q, r ^ s
    parities = (
        p, q, pq, r, r ^ p, r ^ q, r ^ pq, s, s ^ p, s ^ q, s ^ pq, rs, rs ^ p, rs ^ q, rs ^ pq
    )  # fmt: skip
    return (_NIBBLES**2 + sum((_NIBBLES - 2 * plane.bit_count()) ** 2 for plane in parities)) // 16


def _nibble_planes(bits: int) -> tuple[int, int, int, int]:
    """Gather the first, second, third and fourth bits of all nibbles, in one and the same order."""
    a = bits & _QUARTER_ALL
    b = bits >> _QUARTER & _QUARTER_ALL
    c = bits >> 2 * _QUARTER & _QUARTER_ALL
    d = bits >> 3 * _QUARTER
    a, b = _swap(a, b, 1, _EVEN_BITS)
    c, d = _swap(c, d, 1, _EVEN_BITS)
    a, c = _swap(a, c, 2, _EVEN_PAIRS)
    b, d = _swap(b, d, 2, _EVEN_PAIRS)
    return a, b, c, d


def _swap(a: int, b: int, shift: int, mask: int) -> tuple[int, int]:
    """Exchange the bits of `a` above `mask` with those of `b` under it."""
    change = (a >> shift ^ b) & mask
    return a ^ change << shift, b ^ change


def _repeats_word(bits: int, before: int) -> bool:
    """Does an aligned 32-bit word equal the one before it? `before` is the word before the block."""
    changes = (bits ^ (before << _BITS | bits) >> 32).to_bytes(BLOCK_BYTES, "big")
    at = changes.find(b"\0\0\0\0")
    while at >= 0:
        if at % WORD_BYTES == 0:
            return True
        at = changes.find(b"\0\0\0\0", at + 1)
    return False
