"""``drawwell source units``: the units, and access to device nodes."""

import argparse
import os
import pwd
from pathlib import Path

import pytest

from drawwell.cli.output import Output
from drawwell.cli.source import units
from drawwell.config.load import load

CONFIGURATION = """[broker]
source_user = "{user}"
[[source]]
name = "stick"
driver = "onerng"
[[source]]
name = "noise"
driver = "chardev"
path = "{node}"
min_entropy = 1.0
[[source]]
name = "program"
driver = "exec"
command = ["/bin/true"]
min_entropy = 1.0
"""


def configured(folder: Path, node: Path) -> argparse.Namespace:
    path = folder / "drawwell.toml"
    user = pwd.getpwuid(os.geteuid()).pw_name
    path.write_text(CONFIGURATION.format(node=node, user=user))
    return argparse.Namespace(config=str(path), generate=None, apply=False, admit=None, hup=None)


def test_a_unit_is_generated_for_what_udev_cannot_know(tmp_path: Path) -> None:
    """The broker starts a unit for each source that udev does not start."""
    args = configured(tmp_path, Path("/dev/hwrng"))
    args.generate = str(tmp_path / "out")
    assert units._run(args, Output()) == 0
    wants = tmp_path / "out" / "drawwell-broker.service.wants"
    assert {each.name for each in wants.iterdir()} == {
        "drawwell-named@noise.service",
        "drawwell-named@program.service",
    }
    drop_in = tmp_path / "out" / "drawwell-named@noise.service.d" / "50-source.conf"
    assert "DeviceAllow=/dev/hwrng rw" in drop_in.read_text()


def test_another_setting_makes_another_drop_in(tmp_path: Path) -> None:
    """A changed setting changes the text, so a reload restarts the unit."""
    args = configured(tmp_path, Path("/dev/hwrng"))
    before = [units._text(each) for each in units.needing_units(load(args.config))]
    path = Path(args.config)
    path.write_text(path.read_text().replace("min_entropy = 1.0", "min_entropy = 2.0", 1))
    after = [units._text(each) for each in units.needing_units(load(args.config))]
    assert before[0] != after[0]
    assert before[1] == after[1]


def test_a_device_that_udev_starts_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node with a link made by udev needs no unit."""
    links = tmp_path / "links"
    links.mkdir()
    (links / "pci-0000-usb").symlink_to("/dev/null")
    monkeypatch.setattr(units, "_BY_UDEV", str(links))
    args = configured(tmp_path, Path("/dev/null"))
    args.admit = "noise"
    assert units._run(args, Output(quiet=True)) == units.NOT_OURS


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make a node")
def test_a_node_of_another_file_system_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A node in a container may be the host's, so its group does not change."""
    node = tmp_path / "noise"
    os.mknod(node, 0o020600, os.makedev(1, 9))
    monkeypatch.setattr(units, "_DEV", "/proc")  # in a chroot all else may be one file system
    monkeypatch.setattr(units, "_group", lambda: 65534)
    monkeypatch.setattr(units, "_may_open", lambda *_: False)
    args = configured(tmp_path, node)
    args.admit = "noise"
    assert units._run(args, Output()) == 0
    assert (node.stat().st_gid, node.stat().st_mode & 0o777) == (0, 0o600)
    assert "chgrp 65534" in capsys.readouterr().err
