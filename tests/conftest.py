"""Fixtures for tests in several folders."""

import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from support.postgres import FleetDatabase, Server

sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
"""Otherwise every worker and every program that a test starts compiles all modules again."""

pytest_plugins = ["support.suite_times"]

hypothesis.settings.register_profile("drawwell", hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("drawwell")
"""No test asserts a time. In CI, Hypothesis takes the same examples in every run."""
hypothesis.settings.register_profile("quick", hypothesis.settings(), max_examples=30)
"""What `make quick` takes: `make test` runs the rest of the examples."""

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background by a shell
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory with a short name: a socket's path has 107 bytes (unix(7))."""
    with tempfile.TemporaryDirectory(prefix="dw-") as name:
        yield Path(name)


@pytest.fixture(scope="session")
def postgres() -> Iterator["Server"]:
    """Run one PostgreSQL server for all tests of a worker."""
    from support.postgres import require_postgres, server

    require_postgres()
    with server() as one:
        yield one


@pytest.fixture
def fleet_database(postgres: "Server") -> "FleetDatabase":
    """A database with the fleet's schema, for one test."""
    return postgres.database()
