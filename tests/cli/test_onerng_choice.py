"""The default device of onerng commands is the configured one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ONE = '[[source]]\nname = "stick"\ndriver = "onerng"\npath = "/nowhere/onerng"\n'
OTHER = '[[source]]\nname = "hw"\ndriver = "chardev"\npath = "/dev/hwrng"\nmin_entropy = 1.0\n'


def info(where: Path, configuration: str, *args: str) -> subprocess.CompletedProcess[str]:
    file = where / "drawwell.toml"
    file.write_text(f'[broker]\nrun_dir = "{where}/run"\nstate_dir = "{where}/state"\n{configuration}')
    return subprocess.run(
        [sys.executable, "-m", "drawwell", "onerng", "info", *args],
        env={**os.environ, "DRAWWELL_CONFIG": str(file)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("args", [(), ("stick",)])
def test_the_only_configured_one_is_taken(tmp_path: Path, args: tuple[str, ...]) -> None:
    """With or without a name, the configured node is opened."""
    done = info(tmp_path, ONE + OTHER, *args)

    assert (done.returncode, done.stdout) == (69, "")
    assert "/nowhere/onerng" in done.stderr


def test_of_several_one_must_be_named(tmp_path: Path) -> None:
    """If two devices are configured, the error names them."""
    done = info(tmp_path, ONE + ONE.replace('"stick"', '"stock"').replace("/onerng", "/two"))

    assert done.returncode == 64
    assert "stick, stock" in done.stderr


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    """An argument that is neither a name nor a path is an error."""
    done = info(tmp_path, ONE, "stock")

    assert done.returncode == 64
    assert "unknown OneRNG 'stock'" in done.stderr
