"""What tests of several folders share."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory whose name is short: the path of a socket has at most 107 bytes (unix(7))."""
    with tempfile.TemporaryDirectory(prefix="dw-") as name:
        yield Path(name)
