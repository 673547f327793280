"""The non-IID track, compared with NIST's program for 22 inputs."""

import hashlib
import json
import runpy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drawwell.assess import NonIidResult, assess
from drawwell.assess.jit import COMPILED

HERE = Path(__file__).parent
RECORDED: dict[str, Any] = json.loads((HERE / "sp80090b_reference.json").read_text())["inputs"]
SAMPLES = runpy.run_path(str(HERE / "sp80090b_inputs.py"))["samples"]
RELATIVE, ABSOLUTE = 1e-9, 1e-12

SHORT = [name for name in RECORDED if name.endswith("-s")]
LONG = [pytest.param(name, marks=pytest.mark.slow) for name in RECORDED if not name.endswith("-s")]


@cache
def made(name: str) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    return SAMPLES(name)


@cache
def assessed(name: str) -> NonIidResult:
    return assess(made(name))


def compare(name: str) -> None:
    """Compare every estimate, predictor record and result."""
    result, recorded = assessed(name), RECORDED[name]
    for column in result.columns:
        wanted = recorded[column.name]
        assert {each.name for each in column.estimates if each.min_entropy is not None} == set(wanted)
        for estimate in column.estimates:
            if estimate.min_entropy is None:
                continue
            value, *record = wanted[estimate.name]
            assert estimate.min_entropy == pytest.approx(float(value), rel=RELATIVE, abs=ABSOLUTE), estimate
            if record:
                details = estimate.details
                assert [details["correct"], details["run"], details["predictions"]] == record
    assert result.min_entropy == pytest.approx(float(recorded["assessed"]), rel=RELATIVE, abs=ABSOLUTE)


@pytest.mark.parametrize("name", SHORT)
def test_the_short_input_is_the_one_that_was_recorded(name):
    """The generator creates the recorded samples."""
    assert hashlib.sha256(made(name).tobytes()).hexdigest() == RECORDED[name]["sha256"]


@pytest.mark.parametrize("name", LONG)
def test_the_long_input_is_the_one_that_was_recorded(name):
    """The generator creates the recorded samples."""
    assert hashlib.sha256(made(name).tobytes()).hexdigest() == RECORDED[name]["sha256"]


@pytest.mark.parametrize("name", SHORT)
def test_20000_samples_are_assessed_as_by_nist(name):
    """Every estimate equals NIST's to nine digits, and every count exactly."""
    compare(name)


@pytest.mark.skipif(not COMPILED, reason="numba is not installed: this would take half an hour")
@pytest.mark.parametrize("name", LONG)
def test_1000000_samples_are_assessed_as_by_nist(name):
    """Every estimate equals NIST's to nine digits, and every count exactly."""
    compare(name)


@pytest.mark.parametrize("name", SHORT)
def test_an_estimate_is_never_minus_zero(name):
    """NIST's program prints -0 for certainty; drawwell prints 0."""
    values = [each.min_entropy for column in assessed(name).columns for each in column.estimates]
    assert not any(np.signbit(value) for value in values if value is not None)
