"""The FIPS 140-2 block tests, with the same results as Debian's rngtest.

The results are those of rng-tools-debian 2.3 and of rng-tools 6.8 and later. The tests of
blocks of 20,000 bits are in FIPS 140-2 section 4.9.1 with change notice 1 of 2001-10-10, the
continuous test in section 4.9.2. NIST withdrew the block tests in 2002: they quickly detect a
broken source but do not measure entropy. Any seeded generator passes them, as does a loop of
4,096 bytes.

A block is a 20,000-bit integer, first bit most significant. Every count is a population count
of a few shifted copies, so plain Python tests twice as much as the C program in the same time.
For long streams, `fips140.compiled` (with NumPy and Numba) returns the same verdicts ten times
faster.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Final

from drawwell.assess.fips140.verdict import BLOCK_BYTES, MONOBIT, PASS, POKER, RUNS, WORD_BYTES, BlockVerdict

COMPILED_FROM_BYTES: Final = 32_000_000
"""Measured: from this size on, the compiled loops save more time than they take to load."""

Judge = Callable[[bytes | memoryview, int], bytes]
"""Maps blocks and the preceding 32-bit word to one verdict byte per block."""

_BITS: Final = 8 * BLOCK_BYTES
_ALL: Final = (1 << _BITS) - 1
_WORD: Final = (1 << 32) - 1

# _nibble_planes transposes matrices of 4 by 4 bits; each quarter of a block is one row.
_QUARTER: Final = _BITS // 4
_QUARTER_ALL: Final = (1 << _QUARTER) - 1
_EVEN_BITS: Final = _QUARTER_ALL // 0b11
_EVEN_PAIRS: Final = _QUARTER_ALL // 0b1111 * 0b11
_NIBBLES: Final = _BITS // 4


@dataclass(slots=True)
class VerdictTally:
    """Counts of passed blocks, failed blocks, and failures of each test."""

    successes: int = 0
    failures: int = 0
    failed: dict[BlockVerdict, int] = field(default_factory=lambda: dict.fromkeys(BlockVerdict, 0))

    @property
    def blocks(self) -> int:
        """Number of tested blocks."""
        return self.successes + self.failures

    def add(self, verdict: BlockVerdict, blocks: int = 1) -> None:
        """Count blocks with the same verdict."""
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
    """Tests a stream block by block; the continuous test spans blocks.

    Args:
        bootstrap: The four bytes before the first block, which are compared but not tested.
    """

    def __init__(self, bootstrap: bytes) -> None:
        if len(bootstrap) != WORD_BYTES:
            raise ValueError(f"the bootstrap word must have {WORD_BYTES} bytes, not {len(bootstrap)}")
        self._last_word = int.from_bytes(bootstrap, "big")
        self._compiled: Judge | None = None

    def prepare(self, stream_bytes: int) -> None:
        """Load the compiled loops, if installed and useful for this length."""
        if stream_bytes >= COMPILED_FROM_BYTES:
            self._compiled = _compiled()

    def judge_many(self, blocks: bytes | memoryview) -> bytes:
        """Test whole blocks; return one byte per block, its `BlockVerdict`.

        Raises:
            ValueError: the length is not a multiple of 2,500 bytes.
        """
        if len(blocks) % BLOCK_BYTES:
            raise ValueError(f"a block has {BLOCK_BYTES} bytes, so {len(blocks)} bytes are not whole blocks")
        if not blocks or self._compiled is None:
            return bytes(
                self.judge(blocks[at : at + BLOCK_BYTES]) for at in range(0, len(blocks), BLOCK_BYTES)
            )
        verdicts = self._compiled(blocks, self._last_word)
        self._last_word = int.from_bytes(blocks[-WORD_BYTES:], "big")
        return verdicts

    def judge(self, block: bytes | memoryview) -> BlockVerdict:
        """Test one block of 2,500 bytes.

        Raises:
            ValueError: the length is not one whole block.
        """
        if len(block) != BLOCK_BYTES:
            raise ValueError(f"a block must have {BLOCK_BYTES} bytes, not {len(block)}")
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
    """Load the compiled loops (0.5 s, the first time longer); None if missing."""
    try:
        from drawwell.assess import jit  # noqa: PLC0415
        from drawwell.assess.fips140 import compiled  # noqa: PLC0415
    except ImportError:
        return None
    if not jit.COMPILED:
        return None
    compiled.judge(bytes(BLOCK_BYTES), 0)  # Numba loads or compiles on the first call
    return compiled.judge


def _windows(bits: int) -> list[int]:
    """Mark where k consecutive ones begin, for k = 1 to 7."""
    marks = [bits]
    for _ in range(6):
        bits &= bits >> 1
        marks.append(bits)
    return marks


def _runs_pass(windows: list[int]) -> bool:
    """Check the runs; second differences of windows count runs of exactly k."""
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
    """Return whether there is a run of at least 26 ones."""
    thirteen = windows_of_7 & windows_of_7 >> 6
    return bool(thirteen & thirteen >> 13)


def poker_sum(bits: int) -> int:
    """Return the sum of squared nibble counts (Parseval, Walsh transform)."""
    p, q, r, s = _nibble_planes(bits)
    pq, rs = p ^ q, r ^ s
    parities = (
        p, q, pq, r, r ^ p, r ^ q, r ^ pq, s, s ^ p, s ^ q, s ^ pq, rs, rs ^ p, rs ^ q, rs ^ pq
    )  # fmt: skip
    return (_NIBBLES**2 + sum((_NIBBLES - 2 * plane.bit_count()) ** 2 for plane in parities)) // 16


def _nibble_planes(bits: int) -> tuple[int, int, int, int]:
    """Gather the first, second, third and fourth bits of all nibbles."""
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
    """Exchange the bits of `a` above `mask` with the bits of `b` in `mask`."""
    change = (a >> shift ^ b) & mask
    return a ^ change << shift, b ^ change


def _repeats_word(bits: int, before: int) -> bool:
    """Return whether an aligned 32-bit word equals its predecessor."""
    changes = (bits ^ (before << _BITS | bits) >> 32).to_bytes(BLOCK_BYTES, "big")
    at = changes.find(b"\0\0\0\0")
    while at >= 0:
        if at % WORD_BYTES == 0:
            return True
        at = changes.find(b"\0\0\0\0", at + 1)
    return False
