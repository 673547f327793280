"""Ctrl-C and SIGTERM: no traceback, no temporary files left."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from drawwell.testing.waiting import DEADLINE_S, wait_until


@pytest.mark.parametrize("module", ["argparse", "drawwell.errors"])
def test_an_early_interrupt_prints_no_traceback(module: str) -> None:
    """SIGINT during the imports ends the program like a signal."""
    command = [sys.executable, "-X", "importtime", "-m", "drawwell", "status"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while not next(process.stderr).rstrip().endswith(f" {module}"):
            pass
        process.send_signal(signal.SIGINT)
        errors = process.stderr.read()
        assert process.wait(DEADLINE_S) in {-signal.SIGINT, 128 + signal.SIGINT}
    assert "Traceback" not in errors


def test_sigterm_leaves_nothing_behind(tmp_path: Path) -> None:
    """The demo's directory is removed; the exit code names the signal."""
    command = [sys.executable, "-m", "drawwell", "demo"]
    with subprocess.Popen(
        command, env={**os.environ, "TMPDIR": str(tmp_path)}, stderr=subprocess.PIPE
    ) as process:
        wait_until(lambda: list(tmp_path.glob("drawwell-demo-*/drawwell.toml")), "the demonstration began")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []
