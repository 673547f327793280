"""What tests of several folders share."""

import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
"""Otherwise every worker and every program that a test starts compiles all modules again."""

pytest_plugins = ["support.suite_times"]

hypothesis.settings.register_profile("drawwell", hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("drawwell")
"""No test asserts a time. In CI the settings are Hypothesis's own for it: the same examples in every run."""

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background by a shell
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory whose name is short: the path of a socket has at most 107 bytes (unix(7))."""
    with tempfile.TemporaryDirectory(prefix="dw-") as name:
        yield Path(name)
