"""The lab's cache: one build for all, keyed by content."""

import subprocess
import sys
from pathlib import Path

import pytest

from lab.cache import NoLab, cache_directory, kept, program

TESTS = Path(__file__).resolve().parents[1]
ASK = """import os, sys
from lab.cache import kept
def build(work):
    os.write(1, b"built\\n")
    (work / "it").write_text("x" * 100_000)
sys.stdout.write(str(len((kept("thing", {"a": 1}, build) / "it").read_text())))
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DRAWWELL_LAB", str(tmp_path / "lab"))
    return cache_directory()


def test_processes_side_by_side_build_once() -> None:
    """If several processes want one result, one builds it, and all get it."""
    argv = [sys.executable, "-c", ASK]
    askers = [
        subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={"PYTHONPATH": str(TESTS), **_env()}
        )
        for _ in range(4)
    ]
    said = [asker.communicate()[0].decode() for asker in askers]

    assert sum("built" in text for text in said) == 1
    assert all(text.endswith("100000") for text in said)


def _env() -> dict[str, str]:
    return {"DRAWWELL_LAB": str(cache_directory())}


def test_another_recipe_is_another_thing() -> None:
    """The same recipe finds the earlier result; another recipe is built."""
    made = []
    places = [kept("thing", {"n": n}, made.append) for n in (1, 2, 1)]

    assert len(made) == 2
    assert places[0] == places[2] != places[1]


def test_what_failed_leaves_nothing(cache: Path) -> None:
    """A failed build is tried again the next time."""

    def fail(work: Path) -> None:
        (work / "half").write_text("")
        program("/no/such/program")

    with pytest.raises(NoLab, match="not installed"):
        kept("thing", {}, fail)
    assert [path for path in cache.iterdir() if path.is_dir()] == []
    assert kept("thing", {}, lambda _: None).is_dir()
