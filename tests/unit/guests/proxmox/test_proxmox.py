"""Proxmox VE, with a simulation of ``qm``; no real host was tested."""

from dataclasses import replace
from pathlib import Path

import pytest

from drawwell.errors import GuestUnavailable, UsageError
from drawwell.guests.model import ATTACHMENTS, Attachment, Guest, GuestKind
from drawwell.guests.proxmox import Proxmox
from drawwell.units import parse_allowance

OWN = "args: -device pcie-root-port,id=mine"
CONFIG = f"{OWN}\nagent: 1\nrng0: source=/dev/urandom\n\n[before]\nargs: -old\n"
WEB = Guest(GuestKind.PROXMOX, "web01", Attachment.VIRTIO, parse_allowance("1KiB/s"), domain="101")
QM = """#!/usr/bin/env python3
import re, sys
_, _set, number, option, value = sys.argv
path = f"{folder}/{number}.conf"
lines = [each for each in open(path).read().splitlines(True)]
head = [each for each in lines[: lines.index("\\n")] if not each.startswith("args:")]
kept = [f"args: {value}\\n"] if option == "--args" else []
open(path, "w").write("".join([*kept, *head, *lines[lines.index("\\n") :]]))
"""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Proxmox:
    """Create a host with one machine, and a ``qm`` that sets its args."""
    (tmp_path / "101.conf").write_text(CONFIG)
    qm = tmp_path / "bin" / "qm"
    qm.parent.mkdir()
    qm.write_text(QM.replace("{folder}", str(tmp_path)))
    qm.chmod(0o755)
    monkeypatch.setenv("PATH", str(qm.parent), prepend=":")
    return Proxmox(str(tmp_path), str(tmp_path))


def test_its_own_args_stay_and_ours_go_again(host: Proxmox, tmp_path: Path) -> None:
    """--remove restores the configuration byte for byte."""
    config = tmp_path / "101.conf"
    assert len(host.apply(WEB)) == 1
    (line, *_) = config.read_text().splitlines()
    assert line.startswith(f"{OWN} -chardev socket,id=drawwell-web01,")
    assert line.endswith(
        "-device virtio-rng-pci,id=drawwell-web01,rng=drawwell-web01,max-bytes=8256,period=8000"
    )
    assert host.apply(WEB) == []
    assert len(host.remove(WEB)) == 1
    assert config.read_text() == CONFIG
    assert host.remove(WEB) == []


@pytest.mark.slow
@pytest.mark.parametrize("via", ATTACHMENTS[GuestKind.PROXMOX])
@pytest.mark.parametrize("args", ["", '-fw_cfg "name=opt/x,string=a b"', "-a  b", "-a b "])
def test_the_owners_args_are_restored_byte_for_byte(
    host: Proxmox, tmp_path: Path, args: str, via: Attachment
) -> None:
    """Quotes and blanks stay, even if the guest's terms change in between."""
    config, guest = tmp_path / "101.conf", replace(WEB, via=via)
    before = CONFIG.replace(f"{OWN}\n", f"args: {args}\n" if args else "")
    config.write_text(before)
    assert len(host.apply(guest)) == 1
    assert f"args: {args}" in config.read_text()
    assert host.apply(guest) == []
    host.apply(replace(WEB, rate=None))
    assert len(host.remove(guest)) == 1
    assert config.read_text() == before


def test_the_args_of_the_next_start_count(host: Proxmox, tmp_path: Path) -> None:
    """While a machine runs, qm stores them in [PENDING]."""
    config = tmp_path / "101.conf"
    host.apply(WEB)
    pending = config.read_text().splitlines()[0]
    config.write_text(CONFIG.replace("\n[before]", f"\n[PENDING]\n{pending}\n\n[before]"))
    assert host.apply(WEB) == []
    assert len(host.remove(WEB)) == 1
    config.write_text(CONFIG.replace("\n[before]", "\n[PENDING]\ndelete: args,rng0\n\n[before]"))
    assert host.plan(WEB).pieces[0].text.startswith("-chardev ")


def test_the_plan_is_a_line_of_qm_and_names_rng0(host: Proxmox) -> None:
    """The plan has the command that removes Proxmox's own rng0."""
    plan = host.plan(WEB)
    assert plan.pieces[0].into == "qm set 101 --args"
    assert any("qm set 101 --delete rng0 (rng0: source=/dev/urandom)" in note for note in plan.notes)
    assert "vmgenid" not in plan.pieces[0].text


def test_no_such_machine_is_no_guest(host: Proxmox) -> None:
    """Neither a name without a number nor a number without a machine is one."""
    with pytest.raises(UsageError, match="not a machine's number"):
        host.apply(Guest(GuestKind.PROXMOX, "web01", Attachment.VIRTIO))
    with pytest.raises(GuestUnavailable, match="no machine 999"):
        host.apply(Guest(GuestKind.PROXMOX, "web01", Attachment.VIRTIO, domain="999"))


def test_a_seed_is_one_more_disk_and_refused_with_cloud_init_of_its_own(
    host: Proxmox, tmp_path: Path
) -> None:
    """The drive is added to args, but refused if there is a cloud-init drive."""
    seeded, config = replace(WEB, seed=True), tmp_path / "101.conf"
    host.apply(seeded)
    assert "-drive id=seed-drawwell-web01,file=/run/drawwell/guests/web01/seed.iso," in config.read_text()
    host.apply(WEB)
    assert "seed-" not in config.read_text()
    host.apply(seeded)
    host.remove(WEB)
    assert config.read_text() == CONFIG
    config.write_text("ide2: local-lvm:vm-101-cloudinit,media=cdrom\n" + CONFIG)
    with pytest.raises(UsageError, match="already has a cloud-init disk"):
        host.apply(seeded)
