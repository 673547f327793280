"""What system tests of several files share."""

from pathlib import Path

import pytest

from lab.cache import or_skip
from lab.package import package


@pytest.fixture(scope="session")
def deb() -> Path:
    """The Debian package of this source."""
    with or_skip():
        return package()
    raise AssertionError
