"""The FIPS 140-2 tests at their limits, and against a literal reading."""

import random
from collections import Counter
from itertools import groupby, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drawwell.assess.fips140.blocks import BlockTester, VerdictTally, poker_sum
from drawwell.assess.fips140.verdict import BLOCK_BYTES, PASS, BlockVerdict
from support.examples import examples

BITS = 8 * BLOCK_BYTES
BOOT = b"boot"
RUN_LIMITS = ((2315, 2685), (1114, 1386), (527, 723), (240, 384), (103, 209), (103, 209))


def plain_verdict(block: bytes, before: bytes) -> BlockVerdict:
    """Test a block literally as FIPS 140-2 defines it, bit by bit."""
    text = f"{int.from_bytes(block, 'big'):0{BITS}b}"
    verdict = PASS
    if not 9725 < text.count("1") < 10275:
        verdict |= BlockVerdict.MONOBIT
    statistic = 16 / 5000 * sum(count**2 for count in Counter(block.hex()).values()) - 5000
    if not 2.16 < statistic < 46.17:
        verdict |= BlockVerdict.POKER
    runs = Counter((bit, min(len(list(run)), 6)) for bit, run in groupby(text))
    if any(not low <= runs[bit, k + 1] <= high for bit in "01" for k, (low, high) in enumerate(RUN_LIMITS)):
        verdict |= BlockVerdict.RUNS
    if "0" * 26 in text or "1" * 26 in text:
        verdict |= BlockVerdict.LONG_RUN
    words32 = [before, *(block[at : at + 4] for at in range(0, BLOCK_BYTES, 4))]
    if any(one == two for one, two in pairwise(words32)):
        verdict |= BlockVerdict.CONTINUOUS_RUN
    return verdict


def noise(seed: int, bias: float = 0.0, stick: float = 0.0) -> bytes:
    """Make a block: ones at 0.5 + bias, repeats with probability stick."""
    source = random.Random(seed)
    bits = [source.random() < 0.5 + bias]
    for _ in range(BITS - 1):
        bits.append(bits[-1] if source.random() < stick else source.random() < 0.5 + bias)
    return int("".join("01"[bit] for bit in bits), 2).to_bytes(BLOCK_BYTES, "big")


def judge(block: bytes) -> BlockVerdict:
    return BlockTester(BOOT).judge(block)


def with_ones(total: int) -> bytes:
    """Make a good block with `total` ones."""
    block = int.from_bytes(noise(1), "big")
    source = random.Random(2)
    while block.bit_count() != total:
        bit = 1 << source.randrange(BITS)
        block = block | bit if block.bit_count() < total else block & ~bit
    return block.to_bytes(BLOCK_BYTES, "big")


@pytest.mark.parametrize(("ones", "fails"), [(9725, True), (9726, False), (10274, False), (10275, True)])
def test_monobit_fails_at_its_end_points(ones, fails):
    """9,725 and 10,275 ones fail; one bit closer passes."""
    assert (BlockVerdict.MONOBIT in judge(with_ones(ones))) == fails


@given(seed=st.integers(0, 2**32), bias=st.floats(-0.02, 0.02), stick=st.floats(0, 0.06))
@settings(deadline=None, max_examples=examples(60))
def test_a_verdict_is_that_of_a_plain_reading(seed, bias, stick):
    """Window counts and Walsh sums agree with counting bit by bit."""
    block = noise(seed, bias, stick)

    assert judge(block) == plain_verdict(block, BOOT)


@given(block=st.binary(min_size=BLOCK_BYTES, max_size=BLOCK_BYTES))
@settings(deadline=None, max_examples=examples(60))
def test_a_degenerate_block_is_judged_alike(block):
    """Degenerate blocks from hypothesis also get the literal verdict."""
    assert judge(block) == plain_verdict(block, BOOT)


@given(block=st.binary(min_size=BLOCK_BYTES, max_size=BLOCK_BYTES))
def test_poker_sum_is_the_sum_of_squares(block):
    """The Walsh sum equals the sum of the sixteen squared counts."""
    assert poker_sum(int.from_bytes(block, "big")) == sum(n * n for n in Counter(block.hex()).values())


@pytest.mark.parametrize("colour", [0, 1])
@pytest.mark.parametrize("first", [1, 7001, BITS - 27])
@pytest.mark.parametrize(("length", "fails"), [(25, False), (26, True)])
def test_a_run_of_26_fails_and_25_passes(colour, first, length, fails):
    """A long run of zeros or ones is found anywhere in the block."""
    text = list(f"{int.from_bytes(noise(3), 'big'):0{BITS}b}")
    text[first - 1] = text[first + length] = str(1 - colour)
    text[first : first + length] = str(colour) * length
    block = int("".join(text), 2).to_bytes(BLOCK_BYTES, "big")

    assert (BlockVerdict.LONG_RUN in judge(block)) == fails


def test_thirteen_ones_and_thirteen_zeros_are_no_long_run():
    """Adjacent runs of different bits do not count as one run."""
    block = bytearray(noise(4))
    block[100:105] = (0b0_1111111111111_0000000000000_1 << 12).to_bytes(5, "big")

    assert BlockVerdict.LONG_RUN not in judge(bytes(block))


def test_a_word_that_repeats_the_bootstrap_fails():
    """The first 32-bit word is compared with the one before the block."""
    block = BOOT + noise(5)[4:]

    assert BlockVerdict.CONTINUOUS_RUN in judge(block)


def test_a_word_that_repeats_the_last_word_of_the_block_before_fails():
    """The continuous test spans the boundary of adjacent blocks."""
    tester, first = BlockTester(BOOT), noise(6)
    tester.judge(first)

    assert BlockVerdict.CONTINUOUS_RUN in tester.judge(first[-4:] + noise(7)[4:])
    assert BlockVerdict.CONTINUOUS_RUN not in tester.judge(first)


@pytest.mark.parametrize(("at", "fails"), [(1000, True), (1001, False), (1002, False), (2496, True)])
def test_only_aligned_repeats_are_compared(at, fails):
    """Only a repeat aligned to four bytes counts."""
    block = bytearray(noise(8))
    block[at : at + 4] = block[at - 4 : at]

    assert (BlockVerdict.CONTINUOUS_RUN in judge(bytes(block))) == fails


def test_an_unaligned_repeat_does_not_hide_an_aligned_one():
    """The search continues after an unaligned repeat."""
    block = bytearray(noise(9))
    block[502:506] = block[498:502]
    block[1000:1004] = block[996:1000]

    assert BlockVerdict.CONTINUOUS_RUN in judge(bytes(block))


@pytest.mark.parametrize("size", [0, BLOCK_BYTES - 1, BLOCK_BYTES + 1])
def test_a_block_of_another_size_is_refused(size):
    """Only whole blocks are accepted."""
    with pytest.raises(ValueError, match="2500 bytes"):
        judge(bytes(size))


def test_a_bootstrap_of_another_size_is_refused():
    """The bootstrap is one 32-bit word."""
    with pytest.raises(ValueError, match="bootstrap word must have 4 bytes"):
        BlockTester(b"abc")


def test_a_loop_of_4096_bytes_passes():
    """The FIPS 140-2 tests cannot detect a short loop of good bytes."""
    loop = random.Random(10).randbytes(4096) * 40
    tester, tally = BlockTester(BOOT), VerdictTally()
    for at in range(0, len(loop) - BLOCK_BYTES, BLOCK_BYTES):
        tally.add(tester.judge(loop[at : at + BLOCK_BYTES]))

    assert tally.failures == 0
    assert tally.blocks == 65


def test_a_tally_counts_each_test_that_a_block_failed():
    """A block that fails two tests counts once as a failure, once per test."""
    tally = VerdictTally()
    for verdict in (PASS, BlockVerdict.MONOBIT | BlockVerdict.RUNS, BlockVerdict.RUNS):
        tally.add(verdict)

    assert (tally.successes, tally.failures) == (1, 2)
    assert tally.failed[BlockVerdict.RUNS] == 2
    assert tally.failed[BlockVerdict.MONOBIT] == 1
    assert tally.failed[BlockVerdict.POKER] == 0
