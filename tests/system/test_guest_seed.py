"""Seeds for a guest's first boot, read by real guests with cloud-init."""

import base64
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drawwell.guests.cloud_init import image, user_data
from lab.cache import or_skip
from lab.debian import debian
from lab.guest import QemuGuest
from lab.initramfs import tiny
from lab.snapshot import overlay
from support.daemon import command

NAME = f"seeded{os.getpid()}"
LOG = "/var/log/cloud-init-output.log"
SEED_ALONE = """echo 'cloud_init_modules: [seed_random]' >/etc/cloud/cloud.cfg.d/99_seed_alone.cfg
systemctl mask cloud-config.service cloud-final.service
"""
"""All of cloud-init up to its seed; the rest costs 20 s of CPU at each boot."""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="QEMU is not installed"),
    pytest.mark.skipif(not shutil.which("xorriso"), reason="xorriso is not installed"),
]


def guest(config: Path, *options: str) -> dict[str, Any]:
    """Return ``drawwell guest`` as JSON; `status` is its exit code."""
    done = command("guest", *options, "--json", config=config)
    return {"status": done.returncode, **json.loads(done.stdout or done.stderr)}


def drive(applied: dict[str, Any]) -> str:
    """Return the plan's option for the disk."""
    found = re.search(r"-drive '?([^' ]+)", applied["plan"]["pieces"][0]["text"])
    assert found, applied
    return found[1]


def test_a_guest_finds_its_seed_on_a_disk_of_its_own(broker: Path) -> None:
    """A guest finds its seed on the planned disk, and a clone another seed."""
    applied = guest(broker, "apply", "qemu", NAME, "--new", "--seed")
    assert applied["status"] == 0, applied
    assert guest(broker, "apply", "qemu", NAME)["changes"] == []
    assert guest(broker, "apply", "qemu", NAME, "--seed")["changes"] == []
    other = guest(broker, "apply", "qemu", "clone", "--new", "--seed")
    paths = [Path(next(each["where"] for each in made["changes"] if each["what"].startswith("drew a seed")))
             for made in (applied, other)]  # fmt: skip
    assert {path.stat().st_mode & 0o777 for path in paths} == {0o600}
    with or_skip():
        small = tiny("cloud", modules=("virtio_blk", "isofs"))
    seeds = set()
    for made in (applied, other):
        with QemuGuest(small, "-drive", drive(made)) as machine:
            machine.check("mkdir -p /seed && mount -t iso9660 -o ro /dev/vda /seed")
            text = machine.check("cat /seed/user-data")
            assert f"instance-id: drawwell-{made['plan']['name']}" in machine.check("cat /seed/meta-data")
        seeds.add(re.findall(r"data: (\S+)", text)[0])
    assert {len(base64.b64decode(each, validate=True)) for each in seeds} == {512}
    assert len(seeds) == 2, "a clone has another"
    assert guest(broker, "apply", "qemu", NAME, "--no-seed")["status"] == 0
    assert not paths[0].exists()
    assert guest(broker, "apply", "qemu", "clone", "--remove")["status"] == 0
    assert not paths[1].parent.exists()


def test_a_seed_is_refused_where_it_does_nothing(broker: Path) -> None:
    """A container, or --via without a directory, is refused first."""
    for options in (("docker", "box", "--new"), ("qemu", NAME, "--new", "--via", "builtin")):
        refused = guest(broker, "apply", *options, "--seed")
        assert (refused["status"], bool(refused["hint"])) == (64, True), refused
    assert guest(broker, "list")["guests"] == []


@pytest.mark.long
@pytest.mark.root
def test_cloud_init_credits_the_seed_at_the_first_boot_alone(folder: Path) -> None:
    """Each copy of a disk is credited its own seed, only at its first boot."""
    with or_skip():
        installed = debian(packages=("cloud-init",), modules=("isofs",), hook=SEED_ALONE)
        installed = replace(installed, kernel=installed.kernel.unpacked())
    assert installed.disk
    for name, boots in (("web01", 2), ("web02", 1)):
        config = user_data(os.urandom(512), 256)
        disk = folder / f"{name}.iso"
        disk.write_bytes(image(name, config, str(folder)))
        own = overlay(installed.disk, folder / f"{name}.qcow2")
        for boot in range(boots):
            attached = ("-drive", f"file={disk},format=raw,if=virtio,readonly=on")
            with QemuGuest(replace(installed, disk=own), *attached) as machine:
                assert machine.check("systemctl is-active cloud-init") == "active", boot
                assert machine.check(f"grep -c 'drawwell: credited 256 bits and reseeded' {LOG}") == "1", boot
                assert machine.check("cat /var/lib/cloud/data/instance-id") == f"drawwell-{name}"
                assert machine.read("cat /var/lib/cloud/instance/user-data.txt") == config
                machine.check("sync")
                machine.power_off()
