"""``drawwell doctor`` and locked memory inside a virtual machine."""

import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import drawwell
from lab.cache import or_skip
from lab.debian import debian
from lab.guest import QemuGuest

pytestmark = [
    pytest.mark.long,
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="QEMU is not installed"),
]
RNG = ("-object", "rng-builtin,id=r", "-device", "virtio-rng-pci,rng=r,id=vr", "-device", "vmgenid,guid=auto")


LINK = '[broker]\nstate_dir = "/tmp/s"\nrun_dir = "/tmp/r"\n[[upstream]]\nurl = "unix:///tmp/gone.sock"\n'


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QemuGuest]:
    """Return a Debian with this program in /tmp/program."""
    archive = tmp_path_factory.mktemp("program") / "drawwell.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(
            Path(drawwell.__file__).parent,
            "drawwell",
            filter=lambda each: None if "__pycache__" in each.name else each,
        )
    with or_skip():
        image = debian()
    with QemuGuest(image, *RNG) as booted:
        booted.put("/tmp/drawwell.tar", archive)
        booted.check("mkdir /tmp/program && tar -x -C /tmp/program -f /tmp/drawwell.tar && cd /tmp/program")
        yield booted


def test_a_link_locks_its_memory(machine: QemuGuest, tmp_path: Path) -> None:
    """Root raises the limit, and the process's memory is not swapped."""
    config = tmp_path / "link.toml"
    config.write_text(LINK)
    machine.put("/tmp/link.toml", config)
    run = "python3 -m drawwell link run -c /tmp/link.toml >/tmp/link.log 2>&1 & echo $! >/tmp/link.pid"
    machine.check(f"cd /tmp/program; {run}")
    machine.until("grep -E 'VmLck:[[:space:]]+[1-9][0-9]{3}' /proc/$(cat /tmp/link.pid)/status")
    machine.check("kill $(cat /tmp/link.pid)")


def test_the_doctor_knows_that_it_is_in_a_guest(machine: QemuGuest) -> None:
    """In Debian it finds and checks virtio-rng and the generation ID."""
    machine.until("grep virtio /sys/class/misc/hw_random/rng_current")
    levels, detail = examined(machine)
    assert levels == {"good"}, detail
    wanted = "driver loaded, virtio_rng.0, of 1024, 256 bits, VM generation ID, 20000 bits passes"
    for fact in wanted.split(", "):
        assert fact in detail.replace("20,000", "20000"), (fact, detail)
    machine.qmp("device_del", id="vr")
    machine.until("! grep virtio /sys/class/misc/hw_random/rng_current")
    levels, detail = examined(machine)
    assert (levels, "without virtio-rng" in detail) == ({"note"}, True), detail


def examined(machine: QemuGuest) -> tuple[set[str], str]:
    """Return levels and texts of doctor's findings about the guest."""
    output = machine.run("cd /tmp/program; python3 -m drawwell doctor --json 2>/dev/null").output
    findings = [each for each in json.loads(output)["findings"] if each["subject"] == "guest"]
    details = [each["words"] for each in findings]  # wording: a JSON key
    return {each["level"] for each in findings}, " ".join(details)
