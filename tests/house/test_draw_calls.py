"""The path of a draw stays short."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST_CALLS = 80
"""For a 32-byte draw of class drbg at the TLS door; 63 when the path was made synchronous."""


@pytest.mark.slow
def test_a_small_draw_takes_few_python_calls() -> None:
    """A 32-byte draw over TLS makes at most 80 Python calls."""
    argv = [sys.executable, ROOT / "bench" / "calls.py", "--quick", "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["rows"]["drbg"]["calls"] <= MOST_CALLS
