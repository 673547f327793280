"""``drawwell doctor`` inside a guest."""

import json
import shutil
import tarfile
from pathlib import Path

import pytest

import drawwell
from lab.cache import or_skip
from lab.debian import debian
from lab.guest import QemuGuest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="QEMU is not installed"),
]
RNG = ("-object", "rng-builtin,id=r", "-device", "virtio-rng-pci,rng=r,id=vr", "-device", "vmgenid,guid=auto")


def test_the_doctor_knows_that_it_is_in_a_guest(tmp_path: Path) -> None:
    """In Debian it finds virtio-rng, judges its bytes, and sees the generation id; it is told when the device goes."""
    archive = tmp_path / "drawwell.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(
            Path(drawwell.__file__).parent,
            "drawwell",
            filter=lambda each: None if "__pycache__" in each.name else each,
        )
    with or_skip():
        image = debian()
    with QemuGuest(image, *RNG) as machine:
        machine.put("/tmp/drawwell.tar", archive)
        machine.check("mkdir /tmp/program && tar -x -C /tmp/program -f /tmp/drawwell.tar && cd /tmp/program")
        machine.until("grep virtio /sys/class/misc/hw_random/rng_current")
        levels, words = examined(machine)
        assert levels == {"good"}, words
        wanted = "driver loaded, virtio_rng.0, of 1024, 256 bits, VM generation id, 20000 bits passes"
        for fact in wanted.split(", "):
            assert fact in words.replace("20,000", "20000"), (fact, words)
        machine.qmp("device_del", id="vr")
        machine.until("! grep virtio /sys/class/misc/hw_random/rng_current")
        levels, words = examined(machine)
        assert (levels, "without virtio-rng" in words) == ({"note"}, True), words


def examined(machine: QemuGuest) -> tuple[set[str], str]:
    """What the doctor says of the guest: the levels, and all words."""
    said = machine.run("cd /tmp/program; python3 -m drawwell doctor --json 2>/dev/null").output
    findings = [each for each in json.loads(said)["findings"] if each["subject"] == "guest"]
    return {each["level"] for each in findings}, " ".join(each["words"] for each in findings)
