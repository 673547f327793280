"""machinectl in a booted Debian starts a container."""

import json
import tarfile
from pathlib import Path

import pytest

from drawwell.testing import sick
from lab.cache import or_skip
from lab.debian import debian
from lab.guest import QemuGuest

pytestmark = [pytest.mark.long, pytest.mark.root]
SOURCE = Path(__file__).resolve().parents[2] / "src"
CONFIG = """[broker]
name = "well"
[kernel]
feed = false
[[source]]
name = "noise"
driver = "replay"
path = "/root/noise"
"""
OWN = "[Exec]\nPrivateUsers=no\n[Files]\nBindReadOnly=/usr\n"
BOX = """
cd /var/lib/machines/box
mkdir -p usr etc var/lib proc sys dev run tmp root
for each in bin sbin lib lib64; do ln -s usr/$each $each; done
cp -a /etc/passwd /etc/group /etc/shadow /etc/nsswitch.conf /etc/pam.d /etc/dbus-1 etc/
cp /usr/lib/os-release etc/
: > etc/machine-id
"""
"""A container with the machine's own programs."""
LONG_S = 600.0


def test_a_container_of_machinectl_draws(tmp_path: Path) -> None:
    """The socket is mounted at machinectl's start, verified and removed."""
    archive = tmp_path / "drawwell.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(SOURCE / "drawwell", "drawwell")
    with or_skip():
        image = debian(packages=("systemd-container",))
    with QemuGuest(image, memory_mib=768) as machine:
        machine.put("/tmp/drawwell.tar", archive)
        machine.put("/root/noise", sick.good(3).read(1 << 20))
        machine.check("mkdir -p /opt/d /etc/drawwell /etc/systemd/nspawn /var/lib/machines/box")
        machine.check("tar xf /tmp/drawwell.tar -C /opt/d")
        machine.put("/usr/local/bin/drawwell", '#!/bin/sh\nPYTHONPATH=/opt/d exec python3 -m drawwell "$@"\n')
        machine.put("/etc/drawwell/drawwell.toml", CONFIG)
        machine.put("/etc/systemd/nspawn/box.nspawn", OWN)
        machine.check("chmod 755 /usr/local/bin/drawwell")
        machine.check(f"(set -e{BOX})")
        machine.check("setsid drawwell run >/run/well.log 2>&1 &")
        machine.until("drawwell status --json | grep -q '\"healthy_sources\": 1'", within_s=LONG_S)

        machine.check("drawwell guest apply nspawn box --yes", within_s=LONG_S)
        machine.check("machinectl start box", within_s=LONG_S)
        assert "box" in machine.check("machinectl list --no-legend")
        verified = json.loads(
            machine.until("drawwell guest verify nspawn box --json 2>/dev/null", within_s=LONG_S)
        )
        assert {each["verdict"] for each in verified["findings"]} == {"holds"}, verified
        machine.check("machinectl terminate box", within_s=LONG_S)
        machine.check("drawwell guest apply nspawn box --remove", within_s=LONG_S)
        assert machine.read("cat /etc/systemd/nspawn/box.nspawn").decode() == OWN
