"""The path of a draw stays short."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST_CALLS = 60
"""Limit for a 32-byte draw at the TLS door; last count: 39 for class drbg, 52 for full."""


@pytest.mark.slow
def test_a_small_draw_takes_few_python_calls() -> None:
    """A 32-byte draw over TLS makes at most 60 calls, of either class."""
    argv = [sys.executable, ROOT / "bench" / "calls.py", "--quick", "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    rows = json.loads(done.stdout)["rows"]
    assert max(row["calls"] for row in rows.values()) <= MOST_CALLS
