"""A Firecracker guest's bridge over AF_VSOCK, with vsock_loopback.

Without another transport the kernel loops a connection to the host (CID 2) back, so host and
guest are one machine here. Firecracker's own part, a Unix socket for each port, is socat's.
"""

import json
import tarfile
from pathlib import Path

import pytest

from drawwell.testing import sick
from drawwell.testing.waiting import DEADLINE_S
from lab.cache import or_skip
from lab.debian import debian
from lab.guest import QemuGuest
from lab.host_programs import host_programs

pytestmark = [pytest.mark.long, pytest.mark.root]
SOURCE = Path(__file__).resolve().parents[2] / "src"
CONFIG = """[broker]
name = "well"
run_dir = "/run/well"
state_dir = "/var/lib/well"
[kernel]
feed = false
[[source]]
name = "noise"
driver = "replay"
path = "/root/noise"
"""
HOST = "socat VSOCK-LISTEN:55000,fork UNIX-CONNECT:/run/micro1.sock_55000"
"""Firecracker's action for a connection to port 55000 of the host."""


def test_a_guest_draws_by_its_vsock(tmp_path: Path) -> None:
    """A draw through the planned bridge is charged to the guest's account."""
    archive = tmp_path / "drawwell.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(SOURCE / "drawwell", "drawwell")
    with or_skip():
        image, programs = debian(modules=("vsock_loopback",)), host_programs("socat")
    with QemuGuest(image) as machine:
        machine.put("/tmp/drawwell.tar", archive)
        machine.check("mkdir -p /opt/d && tar xf /tmp/drawwell.tar -C /opt/d")
        for path, file in programs.items():
            if not machine.run(f"test -e {path}"):
                machine.put(path, file)
        machine.put("/root/noise", sick.good(3).read(1 << 20))
        machine.put("/root/well.toml", CONFIG)
        machine.check("chmod 755 /usr/bin/socat; mkdir -p /var/lib/well")
        machine.check('well() { PYTHONPATH=/opt/d python3 -m drawwell -c /root/well.toml "$@"; }')
        machine.check(
            "setsid env PYTHONPATH=/opt/d python3 -m drawwell -c /root/well.toml run >/root/log 2>&1 &"
        )
        machine.until("well status --json | grep -q '\"healthy_sources\": 1'", within_s=DEADLINE_S)

        apply = "well guest apply firecracker micro1 --connect /run/micro1.sock --json"
        plan = json.loads(machine.check(f"{apply} --quiet"))["plan"]
        (bridge,) = [piece["text"] for piece in plan["pieces"] if piece["title"] == "in the guest"]
        machine.check(f"setsid {HOST} >/root/host.log 2>&1 &")
        machine.check(f"({bridge.strip()}) >/root/bridge.log 2>&1")
        machine.until("test -S /run/drawwell/draw.sock")
        drawn = machine.check("PYTHONPATH=/opt/d python3 -m drawwell draw 32 --hex --quiet")
        assert len(bytes.fromhex(drawn.split()[-1])) == 32
        (entry,) = json.loads(machine.check("well guest list --json"))["guests"]
        assert entry["full_bytes"] == 32, entry
