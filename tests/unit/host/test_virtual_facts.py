"""Detecting virtual machines and copies, from a fake /proc."""

import os
from pathlib import Path

import pytest

from drawwell.cli.doctor.surroundings import copies
from drawwell.config.load import load
from drawwell.host.virtual import VirtualFacts, virtual_facts

FLAGS = "processor\t: 0\nflags\t\t: fpu vme {} sse2\n"


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize(
    ("files", "virtual"),
    [
        ({"proc__cpuinfo": FLAGS.format("hypervisor")}, True),
        ({"proc__cpuinfo": FLAGS.format("hypervisors")}, False),
        ({"sys__class__dmi__id__sys_vendor": "QEMU\n"}, True),
        ({"sys__class__dmi__id__sys_vendor": "Amazon EC2\n"}, True),
        ({"sys__class__dmi__id__sys_vendor": "LENOVO\n", "proc__cpuinfo": FLAGS.format("x")}, False),
        ({"sys__hypervisor__type": "xen\n"}, True),
        ({"proc__device-tree__hypervisor__compatible": "linux,kvm"}, True),
        ({}, False),
    ],
)
def test_a_virtual_machine_is_known(tmp_path: Path, files: dict[str, str], virtual: bool) -> None:
    """A virtual machine is detected by CPU, maker, Xen or device tree."""
    write(tmp_path, **files)
    assert virtual_facts(str(tmp_path)).virtual == virtual


@pytest.mark.parametrize("bus", ["platform", "acpi"])
def test_a_generation_id_counts_when_a_device_is_bound(tmp_path: Path, bus: str) -> None:
    """The driver alone is not enough: its directory contains a link, too."""
    driver = tmp_path / "sys/bus" / bus / "drivers/vmgenid"
    driver.mkdir(parents=True)
    (driver / "bind").write_text("")
    os.symlink("../../../../module/vmgenid", driver / "module")
    assert not virtual_facts(str(tmp_path)).generation_id
    os.symlink("../../../../devices/platform/VMGENCTR:00", driver / "VMGENCTR:00")
    assert virtual_facts(str(tmp_path)).generation_id


@pytest.mark.parametrize(
    ("facts", "level", "text"),
    [
        (
            VirtualFacts(virtual=True, generation_id=False, log_readable=True),
            "note",
            "has no generation ID",
        ),
        (VirtualFacts(virtual=True, generation_id=True, log_readable=False), "note", "may not read"),
        (VirtualFacts(virtual=True, generation_id=True, log_readable=True), "good", "are detected"),
    ],
)
def test_the_doctor_reports_whether_copies_are_noticed(
    tmp_path: Path, facts: VirtualFacts, level: str, text: str
) -> None:
    """In a virtual machine, undetected copies cause a warning with a remedy."""
    config = load(None, directory=str(tmp_path))
    (finding,) = copies(config, facts)
    assert finding.level == level
    assert text in finding.words  # wording: a JSON key
    assert bool(finding.hint) == (level == "note")


def test_the_doctor_ignores_copies_of_real_machines_and_consumers(tmp_path: Path) -> None:
    """A real machine cannot be copied; one without a broker loses nothing."""
    real = VirtualFacts(virtual=False, generation_id=False, log_readable=False)
    assert list(copies(load(None, directory=str(tmp_path)), real)) == []
    (tmp_path / "drawwell.toml").write_text('[[upstream]]\nurl = "tls://well:55000"\n')
    bare = VirtualFacts(virtual=True, generation_id=False, log_readable=False)
    assert list(copies(load(None, directory=str(tmp_path)), bare)) == []
