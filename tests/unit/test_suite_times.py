"""The timing of a full test run."""

import subprocess
import sys
from pathlib import Path

import pytest

from support.suite_times import LIMIT_S, judge, suite

ROOT = Path(__file__).parents[2]


def test_a_suite_is_two_folders() -> None:
    """Times are summed by the first two folders of a test's path."""
    assert suite("tests/unit/wire/test_frames.py::test_x[a/b]") == "tests/unit"


@pytest.mark.parametrize(
    ("wall_s", "others_s", "cores", "exceeded"),
    [
        (LIMIT_S, 0.0, 2, False),
        (LIMIT_S + 1, 0.0, 2, True),
        (LIMIT_S + 1, LIMIT_S * 0.1, 2, True),
        (LIMIT_S + 1, LIMIT_S * 0.3, 2, False),
        (LIMIT_S + 1, 0.0, 1, False),
    ],
)
def test_the_limit_holds_on_a_quiet_machine_of_two_cores(
    wall_s: float, others_s: float, cores: int, exceeded: bool
) -> None:
    """A longer run fails, unless other programs ran or there is one core."""
    assert judge(wall_s, others_s, cores)[0] is exceeded


@pytest.mark.slow
@pytest.mark.parametrize(("limit_s", "status"), [(60, 0), (-1, 1)])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_reports_its_suites_and_fails_beyond_the_limit(
    tmp_path: Path, workers: int, limit_s: int, status: int
) -> None:
    """The limit sets the exit status, with and without workers."""
    (tmp_path / "tests" / "one").mkdir(parents=True)
    (tmp_path / "tests" / "one" / "test_x.py").write_text("def test_x(): pass\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "tests" / "conftest.py").write_text(
        (ROOT / "tests" / "support" / "suite_times.py").read_text()
        + f"\nLIMIT_S, QUIET, FEWEST_CORES = {limit_s}, 9e9, 1\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", str(workers), "--time-limit", "tests"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    assert "  tests/one\n" in done.stdout
    assert " minutes" in done.stdout
