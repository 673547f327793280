"""Configurations from a single text."""

from pathlib import Path

import pytest

from drawwell.config.defaults import HostFacts
from drawwell.config.load import load
from drawwell.config.model import Config
from drawwell.errors import ConfigError

ROOT = HostFacts("well-1.example", 0, "/root", {}, {"www-data": 33, "0": 0}.get)


def load_text(tmp_path: Path, text: str, machine: HostFacts = ROOT) -> Config:
    file = tmp_path / "test.toml"
    file.write_text(text)
    return load(str(file), machine=machine)


def faults_of(tmp_path: Path, text: str) -> list[str]:
    """Return every fault of `text`, without the file name."""
    with pytest.raises(ConfigError) as caught:
        load_text(tmp_path, text)
    return [fault.removeprefix(f"{tmp_path}/test.toml:") for fault in caught.value.faults]
