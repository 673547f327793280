"""The FIPS 140-2 block tests against what Debian's rngtest printed for fifteen inputs."""

import hashlib
import json
import runpy
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from drawwell.assess.fips140 import BLOCK_BYTES, PASS, BlockTester, Tally

HERE = Path(__file__).parent
RECORDED: dict[str, Any] = json.loads((HERE / "fips140_rngtest.json").read_text())["inputs"]
INPUTS = runpy.run_path(str(HERE / "fips140_inputs.py"))["INPUTS"]


@cache
def made(name: str) -> bytes:
    return INPUTS[name]()


def judged(data: bytes, *, bootstrap_at: int) -> tuple[Tally, bytes]:
    """Judge all whole blocks after the bootstrap word; return the tally and the blocks that passed."""
    start = bootstrap_at + 4
    tester, tally, passed = BlockTester(data[bootstrap_at:start]), Tally(), bytearray()
    for at in range(start, len(data) - BLOCK_BYTES + 1, BLOCK_BYTES):
        verdict = tester.judge(data[at : at + BLOCK_BYTES])
        tally.add(verdict)
        if verdict == PASS:
            passed += data[at : at + BLOCK_BYTES]
    return tally, bytes(passed)


@pytest.mark.parametrize("name", RECORDED)
def test_the_input_is_the_one_that_was_recorded(name):
    """The generator makes the bytes whose verdicts were recorded."""
    assert hashlib.sha256(made(name)).hexdigest() == RECORDED[name]["sha256"]


@pytest.mark.parametrize(("mode", "bootstrap_at"), [("rngtest", 0), ("rngtest --pipe", 4)])
@pytest.mark.parametrize("name", RECORDED)
def test_verdicts_equal_those_of_rngtest(name, mode, bootstrap_at):
    """Every counter of every input is rngtest's, and so are the blocks that passed."""
    recorded = RECORDED[name][mode]

    tally, passed = judged(made(name), bootstrap_at=bootstrap_at)

    assert (tally.successes, tally.failures) == (recorded["successes"], recorded["failures"])
    assert {test.title: count for test, count in tally.failed.items()} == recorded["failed"]
    if recorded["sent_sha256"]:
        assert hashlib.sha256(passed).hexdigest() == recorded["sent_sha256"]
