"""Compiled and plain FIPS 140-2 loops agree."""

import random
import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from drawwell.assess.fips140.blocks import COMPILED_FROM_BYTES, BlockTester, VerdictTally
from drawwell.assess.fips140.verdict import BLOCK_BYTES, PASS, BlockVerdict
from support.examples import examples

pytest.importorskip("numba")

BITS = 8 * BLOCK_BYTES
BOOT = b"boot"


def compiled() -> BlockTester:
    tester = BlockTester(BOOT)
    tester.prepare(COMPILED_FROM_BYTES)
    return tester


def block(seed: int, ones: int, zeros: int, long_run: int, repeat: bool) -> bytes:
    """Create noise with extra ones and zeros, a run (ones if > 0), a repeat."""
    source = random.Random(seed)
    bits = source.getrandbits(BITS)
    for _ in range(ones):
        bits |= 1 << source.randrange(BITS)
    for _ in range(zeros):
        bits &= ~(1 << source.randrange(BITS))
    run = ((1 << abs(long_run)) - 1) << source.randrange(BITS - abs(long_run) + 1)
    bits = bits | run if long_run > 0 else bits & ~run
    data = bytearray(bits.to_bytes(BLOCK_BYTES, "big"))
    if repeat:
        at = 4 * source.randrange(1, BLOCK_BYTES // 4)
        data[at : at + 4] = data[at - 4 : at]
    return bytes(data)


blocks = st.builds(
    block,
    seed=st.integers(0, 2**32),
    ones=st.integers(0, 800),
    zeros=st.integers(0, 800),
    long_run=st.sampled_from([0, 0, 24, 25, 26, 27, 40, 70, -24, -25, -26, -27, -40, -70]),
    repeat=st.booleans(),
)

degenerate = st.binary(min_size=BLOCK_BYTES, max_size=BLOCK_BYTES)


@pytest.mark.slow
@given(stream=st.lists(blocks | degenerate, min_size=1, max_size=12))
@example(stream=[bytes(BLOCK_BYTES), b"\xff" * BLOCK_BYTES, BOOT * (BLOCK_BYTES // 4)])
@settings(deadline=None, max_examples=examples(60))
def test_compiled_and_plain_loops_give_the_same_verdicts(stream):
    """Verdicts agree over good, biased and degenerate blocks in one stream."""
    data = b"".join(stream)

    assert compiled().judge_many(data) == BlockTester(BOOT).judge_many(data)


@pytest.mark.parametrize("colour", [0, 1])
@pytest.mark.parametrize("first", [0, 1, 7, 31, 32, 7001, BITS - 33, BITS - 26])
@pytest.mark.parametrize("length", [24, 25, 26])
def test_a_long_run_is_seen_wherever_it_lies(colour, first, length):
    """26 equal bits fail and 25 pass, across 32-bit words and at both ends."""
    text = list(f"{random.Random(1).getrandbits(BITS):0{BITS}b}")
    text[first : first + length] = str(colour) * length
    if first:
        text[first - 1] = str(1 - colour)
    if first + length < BITS:
        text[first + length] = str(1 - colour)
    data = int("".join(text), 2).to_bytes(BLOCK_BYTES, "big")

    verdict = BlockVerdict(compiled().judge_many(data)[0])

    assert (BlockVerdict.LONG_RUN in verdict) == (length == 26)


def test_every_verdict_is_there_to_be_compared():
    """The compared blocks include every kind of failure, and a pass."""
    source, seen = random.Random(2), set()
    for seed in range(200):
        made = block(seed, source.randrange(800), source.randrange(800), seed % 30, seed % 5 == 0)
        seen.add(compiled().judge_many(made)[0])

    assert PASS in seen
    assert {test for test in BlockVerdict if any(test & verdict for verdict in seen)} == set(BlockVerdict)


@given(cuts=st.lists(st.integers(0, 30), max_size=6), early=st.booleans())
@settings(deadline=None, max_examples=examples(40))
def test_the_cuts_of_a_stream_change_no_verdict(cuts, early):
    """Chunk sizes and a switch to compiled loops leave all verdicts unchanged."""
    data = bytearray(BOOT + random.Random(3).randbytes(30 * BLOCK_BYTES))
    for at in range(4, len(data), 3 * BLOCK_BYTES):
        data[at : at + 4] = data[at - 4 : at]  # each third block repeats the word before it
    stream = bytes(data[4:])
    tester, found = BlockTester(BOOT), b""
    edges = [0, *sorted(cuts), 30]
    for number, (start, end) in enumerate(pairwise(edges)):
        if early or number:
            tester.prepare(COMPILED_FROM_BYTES)
        found += tester.judge_many(memoryview(stream)[start * BLOCK_BYTES : end * BLOCK_BYTES])

    assert found == BlockTester(BOOT).judge_many(stream)
    assert [at for at, verdict in enumerate(found) if verdict & BlockVerdict.CONTINUOUS_RUN] == [
        *range(0, 30, 3)
    ]


@pytest.mark.parametrize("size", [1, BLOCK_BYTES - 1, 2 * BLOCK_BYTES + 4])
def test_a_partial_block_is_refused(size):
    """Only whole blocks are accepted, even in large chunks."""
    for tester in (BlockTester(BOOT), compiled()):
        with pytest.raises(ValueError, match="2500 bytes"):
            tester.judge_many(bytes(size))


def test_no_block_has_no_verdict_and_changes_nothing():
    """An empty chunk does not change the previous word."""
    repeating = BOOT + random.Random(4).randbytes(BLOCK_BYTES - 4)
    tester = compiled()

    assert tester.judge_many(b"") == b""
    assert tester.judge_many(repeating)[0] & BlockVerdict.CONTINUOUS_RUN


def test_many_verdicts_are_counted_as_one_by_one():
    """The tally of a chunk equals that of its blocks."""
    verdicts, one_by_one, at_once = bytes([0, 0, 4, 5, 0, 16, 4]), VerdictTally(), VerdictTally()
    for verdict in verdicts:
        one_by_one.add(BlockVerdict(verdict))
    at_once.add_many(verdicts)

    assert at_once == one_by_one
    assert (at_once.successes, at_once.failures) == (3, 4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stream_bytes", "loaded"), [(COMPILED_FROM_BYTES - 1, False), (COMPILED_FROM_BYTES, True)]
)
def test_numba_is_loaded_for_a_long_stream_only(stream_bytes, loaded):
    """A short stream uses plain Python and does not load Numba."""
    script = (
        "import sys; from drawwell.assess.fips140.blocks import BlockTester\n"
        f"tester = BlockTester(b'boot'); tester.prepare({stream_bytes}); tester.judge_many(bytes(5000))\n"
        "print('numba' in sys.modules, 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.split() == [str(loaded)] * 2


@pytest.mark.parametrize("missing", ["numpy", "numba"])
def test_without_the_extra_the_plain_loops_judge(missing):
    """Without NumPy or Numba a long stream gets the same verdicts."""
    script = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from drawwell.assess.fips140.blocks import BlockTester\n"
        f"tester = BlockTester(b'boot'); tester.prepare({COMPILED_FROM_BYTES})\n"
        "print(*tester.judge_many(bytes(2500) + b'abcdefgh' * 312 + b'ijkl'))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert [int(each) for each in done.stdout.split()] == [
        *BlockTester(BOOT).judge_many(bytes(2500) + b"abcdefgh" * 312 + b"ijkl")
    ]
