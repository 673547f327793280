"""Fixtures for several system tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.cache import or_skip
from lab.package import package
from support.daemon import healthy_broker, stick_for_broker


@pytest.fixture(scope="session")
def deb() -> Path:
    """Return the Debian package of this source."""
    with or_skip():
        return package()
    raise AssertionError


@pytest.fixture
def config(folder: Path) -> Iterator[Path]:
    """Return the configuration of a broker with a plugged-in stick."""
    with stick_for_broker(folder) as config:
        yield config


@pytest.fixture
def broker(config: Path) -> Iterator[Path]:
    """Return the same with a running broker."""
    with healthy_broker(config):
        yield config
