"""Every command keeps its memory private before it does anything."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from drawwell.cli.parser import NOUNS

ROOT = Path(__file__).parents[3]
LOOK = """
import ctypes, json, resource, sys
from drawwell.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print(json.dumps([ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE)]))
"""


@pytest.mark.parametrize("noun", NOUNS)
def test_no_command_can_be_dumped(noun: str) -> None:
    """PR_GET_DUMPABLE (prctl(2)) is 0, and so are both core limits."""
    run = subprocess.run(
        [sys.executable, "-c", LOOK, noun, "--help"], capture_output=True, text=True, check=True
    )
    assert json.loads(run.stdout.splitlines()[-1]) == [0, [0, 0]]


def test_there_is_no_other_way_in() -> None:
    """The one program and `python -m drawwell` call the same function."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"drawwell": "drawwell.cli:main"}
    assert "from drawwell.cli import main" in (ROOT / "src" / "drawwell" / "__main__.py").read_text()
