"""`drawwell check` and the real rngtest: verdicts, lines, exit codes."""

import functools
import os
import random
import re
import shutil
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drawwell.assess.fips140.blocks import BlockTester
from drawwell.assess.fips140.verdict import BLOCK_BYTES, BlockVerdict

BOOT = b"boot"
CHECK = [sys.executable, "-m", "drawwell", "check"]


def without_rngtest() -> str:
    """Return why the real rngtest cannot be run, or ""."""
    if not shutil.which("rngtest"):
        return "rngtest is not installed (Debian: rng-tools-debian)"
    version = subprocess.run(
        ["rngtest", "--version"], capture_output=True, check=False, text=True
    ).stdout.split("\n")[0]
    return "" if version == "rngtest 2.2" else f"{version} is not that of rng-tools-debian 2.3"


pytestmark = pytest.mark.skipif(bool(without_rngtest()), reason=without_rngtest())


def block(seed: int, bias: float, stick: float, long_run: int, repeat: bool) -> bytes:
    """Return a seeded block with one of several defects."""
    source = random.Random(seed)
    noise = int.from_bytes(source.randbytes(BLOCK_BYTES), "big")
    for _ in range(int(bias * 64)):
        noise |= 1 << source.randrange(8 * BLOCK_BYTES)
    if stick > 0.9:
        noise &= noise >> 1 | noise << 1 & ((1 << 8 * BLOCK_BYTES) - 1)
    noise |= ((1 << long_run) - 1) << source.randrange(19_000)
    data = bytearray(noise.to_bytes(BLOCK_BYTES, "big"))
    if repeat:
        at = 4 * source.randrange(1, 625)
        data[at : at + 4] = data[at - 4 : at]
    return bytes(data)


blocks = st.builds(
    block,
    seed=st.integers(0, 2**32),
    bias=st.floats(0, 12),
    stick=st.floats(0, 1),
    long_run=st.sampled_from([0, 0, 24, 25, 26, 27, 34]),
    repeat=st.booleans(),
)


def rngtest_verdicts(data: bytes) -> list[BlockVerdict]:
    """Return rngtest's verdict on each block, from its counters."""
    counted = subprocess.run(
        ["rngtest", "-b", "1"], input=data, capture_output=True, check=False
    ).stderr.decode()
    counted = [
        [int(n) for n in re.findall(rf"\(2001-10-10\) {test.title}: (\d+)", counted)] for test in BlockVerdict
    ]
    verdicts = []
    for at in range(len(data) // BLOCK_BYTES):
        fired = [
            test
            for test, counts in zip(BlockVerdict, counted, strict=True)
            if counts[at] > (counts[at - 1] if at else 0)
        ]
        verdicts.append(functools.reduce(BlockVerdict.__or__, fired, BlockVerdict(0)))
    return verdicts


@given(stream=st.lists(blocks, min_size=1, max_size=40))
@settings(deadline=None, max_examples=40)
def test_each_block_gets_the_verdict_of_rngtest(stream):
    """Each test agrees with rngtest on a stream of good and bad blocks."""
    tester = BlockTester(BOOT)

    assert [tester.judge(one) for one in stream] == rngtest_verdicts(BOOT + b"".join(stream))


@given(seed=st.integers(0, 2**32), count=st.integers(1, 60))
@settings(deadline=None, max_examples=15)
def test_raw_noise_gets_the_verdicts_of_rngtest(seed, count):
    """Uniform noise, with rare borderline failures, gets the same verdicts."""
    data = random.Random(seed).randbytes(count * BLOCK_BYTES)
    tester = BlockTester(BOOT)

    ours = [tester.judge(data[at : at + BLOCK_BYTES]) for at in range(0, len(data), BLOCK_BYTES)]

    assert ours == rngtest_verdicts(BOOT + data)


def masked(stderr: bytes) -> list[str]:
    """Return the common lines, without banner, with times and speeds masked."""
    text = re.sub(r"\(min=.*\)[KMGTPE]?i?bits/s|\d+ microseconds", "…", stderr.decode())
    return [line for line in text.splitlines() if line.startswith("rngtest: ")]


def stream(length: int, bad: tuple[int, ...] = ()) -> bytes:
    data = bytearray(random.Random(20).randbytes(length))
    for at in bad:
        data[100 + at * BLOCK_BYTES : 110 + at * BLOCK_BYTES] = bytes(10)
    return bytes(data)


@pytest.mark.parametrize(
    ("arguments", "data"),
    [
        ([], stream(250_004)),
        ([], stream(251_000, bad=(3, 50))),
        ([], stream(2503)),
        ([], stream(3)),
        ([], b""),
        (["-c", "7"], stream(100_000)),
        (["-c", "0x07"], b""),
        (["-c", "500"], stream(100_000)),
        (["-b", "20"], stream(250_004, bad=(30,))),
        (["-b", "20", "-c", "40"], stream(250_004, bad=(30,))),
        (["--pipe"], stream(250_008, bad=(0, 60))),
        (["-p", "-c", "9"], stream(250_008, bad=(4,))),
        (["-p"], stream(7)),
        (["--blockstats=10", "--blockcount=15", "--timedstats=1000"], stream(250_004)),
        (["-c", "-1"], b""),
        (["-b", "x"], b""),
        (["--no-such-option"], b""),
    ],
)
def test_lines_bytes_and_exit_code_are_those_of_rngtest(arguments, data):
    """The same options and input give the same output and exit code."""
    theirs = subprocess.run(["rngtest", *arguments], input=data, capture_output=True, check=False)
    ours = subprocess.run([*CHECK, *arguments], input=data, capture_output=True, check=False)

    assert ours.returncode == theirs.returncode
    if theirs.returncode != 10:
        assert ours.stdout == theirs.stdout
        assert masked(ours.stderr) == masked(theirs.stderr)


def test_an_output_error_is_said_and_exits_as_in_rngtest():
    """A full device ends both programs with the same message and code 11."""
    results = []
    for program in (["rngtest"], CHECK):
        with open("/dev/full", "wb") as full:
            results.append(
                subprocess.run(
                    [*program, "-p"], input=stream(9000), stdout=full, stderr=subprocess.PIPE, check=False
                )
            )
    theirs, ours = results

    assert (ours.returncode, theirs.returncode) == (11, 11)
    assert masked(ours.stderr) == masked(theirs.stderr)


def test_an_unreadable_input_is_said_and_exits_as_in_rngtest():
    """A directory as input ends both programs with the same message and code."""
    directory = os.open("/", os.O_RDONLY)
    theirs = subprocess.run("rngtest", stdin=directory, stderr=subprocess.PIPE, check=False)
    os.close(directory)
    ours = subprocess.run([*CHECK, "/"], stderr=subprocess.PIPE, check=False)

    assert ours.returncode == theirs.returncode
    assert masked(ours.stderr) == masked(theirs.stderr)


def test_no_byte_beyond_the_last_block_is_read():
    """After -c N the next reader of the pipe gets the next byte."""
    data = stream(50_000)
    rest = []
    for program in (["rngtest"], CHECK):
        reader, writer = os.pipe()
        os.write(writer, data)
        os.close(writer)
        subprocess.run([*program, "-c", "3"], stdin=reader, stderr=subprocess.DEVNULL, check=False)
        rest.append(os.read(reader, 60_000))
        os.close(reader)

    assert rest[0] == rest[1] == data[4 + 3 * BLOCK_BYTES :]
