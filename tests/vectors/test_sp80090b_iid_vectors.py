"""IID track, restart tests and conditioning, compared with NIST's."""

import json
import re
import runpy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drawwell.assess import assess
from drawwell.assess.conditioning import assess_conditioning
from drawwell.assess.iid import IidResult, assess_iid
from drawwell.assess.iid.statistics import NAMES, displayed, statistics
from drawwell.assess.restart import as_matrix, assess_restart, restart_cutoff
from drawwell.assess.samples import parse

HERE = Path(__file__).parent
RECORDED: dict[str, Any] = json.loads((HERE / "sp80090b_iid_reference.json").read_text())
INPUTS = runpy.run_path(str(HERE / "sp80090b_inputs.py"))
IID = RECORDED["iid"]
RELATIVE, ABSOLUTE = 1e-9, 1e-12

BY_LENGTH = [
    pytest.param(name, marks=() if name.endswith("-s") else pytest.mark.slow, id=name) for name in IID
]
RESTARTS = [
    pytest.param(each, marks=pytest.mark.slow, id=f"{each['matrix']}{each['track']}{each['h_initial']}")
    for each in RECORDED["restart"]
]
CONDITIONING = [pytest.param(each, id=" ".join(each["args"])) for each in RECORDED["conditioning"]]


def close(printed: str) -> Any:
    return pytest.approx(float(printed), rel=RELATIVE, abs=ABSOLUTE)


@cache
def judged(name: str) -> IidResult:
    """Run the tests that need no random numbers."""
    return assess_iid(parse(INPUTS["samples"](name)), seed=1, rounds=0)


@pytest.mark.parametrize("name", BY_LENGTH)
def test_chi_square_equals_nists(name):
    """Statistic, degrees of freedom, p-value and verdict equal NIST's."""
    result, recorded = judged(name), IID[name]
    for test, printed in (
        (result.independence, recorded["independence"]),
        (result.goodness_of_fit, recorded["goodness_of_fit"]),
    ):
        assert test.statistic == close(printed[0])
        assert test.degrees == int(printed[1])
        assert test.p_value == close(printed[2])
    passed = result.independence.passed and result.goodness_of_fit.passed
    assert passed == ("Chi square tests: Passed" in recorded["verdicts"])


@pytest.mark.parametrize("name", BY_LENGTH)
def test_longest_repeat_equals_nists(name):
    """The result equals NIST's; if NIST's program aborts, the test fails."""
    repeat, recorded = judged(name).longest_repeat, IID[name]["longest_repeat"]
    if recorded is None:
        assert not repeat.passed
        assert repeat.log2_p_value < -1000
        return
    assert repeat.length == int(recorded[0])
    assert repeat.collision == close(recorded[1])
    assert repeat.p_value == close(recorded[2])


@pytest.mark.parametrize("name", BY_LENGTH)
def test_most_common_values_equal_nists(name):
    """The IID estimates of both columns equal NIST's."""
    assert judged(name).h_original == close(IID[name]["h_original"])
    if IID[name]["h_bitstring"] is not None:
        assert judged(name).h_bitstring == close(IID[name]["h_bitstring"])


@pytest.mark.parametrize("name", [p for p in BY_LENGTH if IID[p.values[0]]["statistics"]])
def test_permutation_statistics_equal_nists(name):
    """All 19 original statistics equal NIST's, including the bzip2 length."""
    samples = INPUTS["samples"](name)
    found = statistics(samples, binary=len(np.unique(samples)) == 2)
    recorded = IID[name]["statistics"]
    assert set(recorded) == set(NAMES)
    for statistic, printed in recorded.items():
        assert displayed(statistic, found[statistic], len(samples)) == pytest.approx(
            float(printed), rel=RELATIVE
        ), statistic


@pytest.mark.parametrize("name", ["sym4-s", "rand8-s"])
def test_permutation_tests_pass_where_nists_do(name):
    """Independent samples pass the permutation tests with a fixed seed."""
    assert IID[name]["permutations_passed"]
    assert assess_iid(parse(INPUTS["samples"](name)), seed=1).passed is True


@pytest.mark.parametrize("each", RESTARTS)
def test_restart_tests_equal_nists(each):
    """Counts, verdict and estimates equal NIST's; the cutoff is within one."""
    h_initial = float(each["h_initial"])
    assert all(abs(restart_cutoff(h_initial) - int(printed)) <= 1 for printed in each["cutoffs"])
    matrix = as_matrix(INPUTS["restart"](each["matrix"]))

    def estimate(samples: Any) -> float:
        if each["track"] == "-i":
            return judged_literal(samples)
        return assess(samples).h_original

    result = assess_restart(matrix, h_initial=h_initial, estimate=estimate)
    assert result.most == int(each["most"])
    assert result.passed == (each["exit"] == 0)
    if each["exit"] == 0:
        assert result.h_rows == pytest.approx(float(each["found"]["H_r"]), abs=1e-6)
        assert result.h_columns == pytest.approx(float(each["found"]["H_c"]), abs=1e-6)
        assert result.min_entropy == pytest.approx(float(each["found"]["min(H_r, H_c, H_I)"]), abs=1e-6)


def judged_literal(samples: Any) -> float:
    return assess_iid(parse(samples), seed=1, rounds=0).h_original


@pytest.mark.parametrize("each", CONDITIONING)
def test_conditioning_equals_nists(each):
    """Output entropy, distance from the target and claims equal NIST's."""
    _, n_in, n_out, nw, h_in, *h_prime = each["args"]
    found = assess_conditioning(
        int(n_in), int(n_out), int(nw), float(h_in), float(h_prime[0]) if h_prime else None
    )
    assert found.output_entropy == pytest.approx(float(each["output_entropy"].split(";")[0]), rel=1e-12)
    assert found.h_out == pytest.approx(float(each["h_out"]), rel=1e-12)
    assert found.full_entropy == each["full_entropy"]
    near = re.search(r"Close to (\w+) \(epsilon = 2\^\((-[\d.]+)\)", each["output_entropy"])
    assert found.close_to == (near[1] if near else "")
    if near:
        assert found.shortfall_log2 == pytest.approx(float(near[2]), abs=1e-9)
