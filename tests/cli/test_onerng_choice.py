"""Which device the onerng verbs take when none is named: the one that the configuration names."""

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
    """Unnamed or by its name, it is the configured node that is opened, whatever other sources there are."""
    done = info(tmp_path, ONE + OTHER, *args)

    assert (done.returncode, done.stdout) == (69, "")
    assert "/nowhere/onerng" in done.stderr


def test_of_several_one_must_be_named(tmp_path: Path) -> None:
    """Where two are configured, the error says their names."""
    done = info(tmp_path, ONE + ONE.replace('"stick"', '"stock"').replace("/onerng", "/two"))

    assert done.returncode == 64
    assert "stick, stock" in done.stderr


def test_a_name_that_nobody_configured_is_refused(tmp_path: Path) -> None:
    """What is neither a name nor a path is not looked for anywhere else."""
    done = info(tmp_path, ONE, "stock")

    assert done.returncode == 64
    assert "no OneRNG is called 'stock'" in done.stderr
