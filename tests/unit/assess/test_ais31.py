"""The statistical suite of AIS 20/31, version 3.0."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from drawwell.assess.ais31 import SHORT_BITS, TRIAL_BITS, assess_ais31, monobit, poker
from drawwell.assess.samples import parse
from drawwell.errors import BadData

SAMPLES = runpy.run_path(str(Path(__file__).parents[2] / "vectors" / "sp80090b_inputs.py"))["samples"]
# T1 and T2 of the first 20,000 bits, equal to those of OPPIDA's rngvalidator
KNOWN = {
    "rand1": (10001, 17.9712),
    "bias1_p60": (11913, 828.9664),
    "markov1": (8135, 4339.424),
    "sym4": (10816, 214.0992),
    "ramp8": (9932, 2.304),
    "period37n": (10029, 1156.736),
}


@pytest.mark.parametrize("name", KNOWN)
def test_monobit_and_poker_find_the_known_figures(name):
    """T1 and T2 of 20,000 bits equal those of an independent program."""
    bits = parse(SAMPLES(name)).bit_string[:SHORT_BITS]
    assert (monobit(bits), poker(bits)) == (KNOWN[name][0], pytest.approx(KNOWN[name][1]))


def good_bits(n):
    return np.random.Generator(np.random.PCG64(3)).integers(0, 2, n, dtype=np.uint8)


def test_a_good_trial_is_the_only_one():
    """A trial that passes is not repeated."""
    result = assess_ais31(good_bits(2 * TRIAL_BITS), multi_mmc=lambda _: 0.99, lz78y=lambda _: 0.95)
    assert result.passed
    assert len(result.trials) == 1


def test_a_failed_trial_is_repeated_once():
    """After a failure one trial with fresh bits decides; there is no third."""
    result = assess_ais31(good_bits(3 * TRIAL_BITS), multi_mmc=lambda _: 0.949, lz78y=lambda _: 0.99)
    assert not result.passed
    assert len(result.trials) == 2
    failed = [test.name for test in result.trials[1] if not test.passed]
    assert failed == ["T3 MultiMMC"]


def test_too_few_bits_are_refused():
    """Too few bits for one trial are refused with the required number."""
    with pytest.raises(BadData, match="2040000"):
        assess_ais31(good_bits(TRIAL_BITS - 1), multi_mmc=lambda _: 1.0, lz78y=lambda _: 1.0)
