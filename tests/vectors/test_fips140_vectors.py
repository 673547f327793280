"""The FIPS 140-2 tests, compared with rngtest for fifteen inputs."""

import hashlib
import importlib.util
import json
import runpy
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from drawwell.assess.fips140.blocks import COMPILED_FROM_BYTES, BlockTester, VerdictTally
from drawwell.assess.fips140.verdict import BLOCK_BYTES, PASS

HERE = Path(__file__).parent
RECORDED: dict[str, Any] = json.loads((HERE / "fips140_rngtest.json").read_text())["inputs"]
INPUTS = runpy.run_path(str(HERE / "fips140_inputs.py"))["INPUTS"]


@cache
def made(name: str) -> bytes:
    return INPUTS[name]()


def judged(data: bytes, *, bootstrap_at: int, stream_bytes: int) -> tuple[VerdictTally, bytes]:
    """Test the blocks after the bootstrap; return tally and passing blocks."""
    start = bootstrap_at + 4
    tester, tally = BlockTester(data[bootstrap_at:start]), VerdictTally()
    tester.prepare(stream_bytes)
    end = len(data) - (len(data) - start) % BLOCK_BYTES
    verdicts = tester.judge_many(data[start:end])
    tally.add_many(verdicts)
    passed = [at for at, verdict in enumerate(verdicts) if verdict == PASS]
    return tally, b"".join(data[start + at * BLOCK_BYTES : start + (at + 1) * BLOCK_BYTES] for at in passed)


@pytest.mark.parametrize("name", RECORDED)
def test_the_input_is_the_one_that_was_recorded(name):
    """The generator creates the recorded bytes."""
    assert hashlib.sha256(made(name)).hexdigest() == RECORDED[name]["sha256"]


@pytest.mark.parametrize(
    "stream_bytes",
    [
        pytest.param(0, id="plain"),
        pytest.param(
            COMPILED_FROM_BYTES,
            id="compiled",
            marks=pytest.mark.skipif(not importlib.util.find_spec("numba"), reason="numba is not installed"),
        ),
    ],
)
@pytest.mark.parametrize(("mode", "bootstrap_at"), [("rngtest", 0), ("rngtest --pipe", 4)])
@pytest.mark.parametrize("name", RECORDED)
def test_verdicts_equal_those_of_rngtest(name, mode, bootstrap_at, stream_bytes):
    """Counters and passing blocks of every input equal rngtest's."""
    recorded = RECORDED[name][mode]

    tally, passed = judged(made(name), bootstrap_at=bootstrap_at, stream_bytes=stream_bytes)

    assert (tally.successes, tally.failures) == (recorded["successes"], recorded["failures"])
    assert {test.title: count for test, count in tally.failed.items()} == recorded["failed"]
    if recorded["sent_sha256"]:
        assert hashlib.sha256(passed).hexdigest() == recorded["sent_sha256"]
