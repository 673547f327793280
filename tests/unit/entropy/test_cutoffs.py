"""Cutoffs against published tables, their definition, and those in use."""

import json
import math
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from drawwell.entropy import cutoffs
from drawwell.entropy.health import HealthMonitor, NoiseClaim

ROOT = Path(__file__).parents[3]
VECTORS = json.loads((ROOT / "tests/vectors/health_cutoffs.json").read_text())
IN_USE = json.loads((ROOT / "tests/vectors/cutoffs_in_use.json").read_text())


@pytest.mark.parametrize("row", VECTORS["cutoffs"], ids=lambda row: f"H{row['H']}a{-row['alpha_log2']}")
def test_cutoffs_equal_the_vectors(row: dict[str, float]) -> None:
    """All cutoffs equal the vector file's and the printed formula's."""
    h, alpha = row["H"], -int(row["alpha_log2"])

    assert cutoffs.rct_cutoff(h, alpha) == row["rct"]
    for window in (512, 1024):
        assert cutoffs.apt_cutoff(h, alpha, window) == row[f"apt{window}_corrected"]
        assert 1 + cutoffs.critbinom(window, h, alpha) == row[f"apt{window}"]


@pytest.mark.parametrize("table", VECTORS["jitterentropy"], ids=lambda table: table["name"])
def test_apt_cutoffs_equal_jitterentropys_tables(table: dict) -> None:
    """The cutoffs equal jitterentropy-library's at every oversampling rate."""
    actual = [
        cutoffs.apt_cutoff(float(Fraction(table["h_at_rate_1"], rate)), -table["alpha_log2"], 512)
        for rate in range(1, 21)
    ]

    assert actual == table["cutoffs"]


@pytest.mark.slow
def test_tool_finds_every_figure_in_use_right() -> None:
    """The script that recomputes cutoffs agrees with the code and the file."""
    tool = subprocess.run(
        [sys.executable, ROOT / "tools/cutoffs.py", "--check"], capture_output=True, text=True, check=False
    )

    assert (tool.returncode, tool.stderr) == (0, "")


def test_monitor_uses_the_figures_in_use() -> None:
    """By default a monitor runs five tests with the cutoffs of the file."""
    reports = HealthMonitor(NoiseClaim(), hash_key=bytes(32)).reports()
    actual = {(r.name, r.unit): [r.cutoff_intermittent, r.cutoff_permanent] for r in reports}

    assert actual == {
        ("repetition count", "byte"): IN_USE["bytes"]["repetition_count"],
        ("adaptive proportion", "byte"): IN_USE["bytes"]["adaptive_proportion"],
        ("repeat", "byte"): IN_USE["repeat"]["cutoffs"],
        ("distant repeat", "landmark"): [1, 2],
        ("repetition count", "bit"): IN_USE["bits"]["repetition_count"],
        ("adaptive proportion", "bit"): IN_USE["bits"]["adaptive_proportion"],
    }


@pytest.mark.parametrize("h", [0.05, 0.3, 1.0, 2.0, 2.03125, 2.1, 6.0, 8.0])
def test_repeat_alarms_falsely_once_in_2_30_mib_at_most(h: float) -> None:
    """For any claim the false-alarm rate is at most 2**-30 per MiB."""
    assert cutoffs.repeat_false_alarm_log2(h) <= -30


def test_repeat_window_is_the_shortest_that_keeps_alpha() -> None:
    """H, reach and false-alarm rate determine it: 12 bytes at H = 6."""
    for h, window in ((8.0, 9), (6.0, 12), (2.0, 33), (1.0, 65)):
        assert cutoffs.repeat_window(h) == window
        pairs = 2**20 * math.ceil(2**20 / window)
        assert math.log2(pairs) - h * window <= -30.5
        assert math.log2(2**20 * math.ceil(2**20 / (window - 1))) - h * (window - 1) > -30.5


@pytest.mark.parametrize("h", [0.0, -1.0, float("nan"), float("inf")])
def test_cutoffs_refuse_a_min_entropy_that_is_none(h: float) -> None:
    """A min-entropy must be a finite number above zero."""
    with pytest.raises(ValueError, match="above zero"):
        cutoffs.rct_cutoff(h, 30)
