"""Findings about every kind of device, with a fake sysfs."""

import shutil
import subprocess
from pathlib import Path

import pytest

from drawwell.cli.doctor.devices import device_findings
from drawwell.cli.doctor.finding import DoctorFinding
from drawwell.config.devices import DEVICES, DeviceKind
from drawwell.config.drivers import ONERNG
from drawwell.config.load import load
from drawwell.drivers.discovery import UsbDevice, discover
from drawwell.host.holders import holders
from drawwell.testing.waiting import wait_until

USB_KINDS = {name: kind for name, kind in DEVICES.items() if kind.usb}
READERS = [kind for kind in USB_KINDS.values() if kind.reader]
PLACES = {"cdc_acm": "tty/ttyACM0", "chaoskey": "usbmisc/chaoskey0", "ftdi_sio": "ttyUSB0/tty/ttyUSB0"}
"""Where the kernel's drivers list a node below the interface."""


def plug_in(root: Path, kind: DeviceKind, usb_id: str, bound: str = "") -> None:
    """Create a device's sysfs entries, and its node if `bound` makes one."""
    device, dev = root / "sys/devices/pci0000:00/0000:00:14.0/usb1/1-2", root / "dev"
    interface = device / "1-2:1.0"
    interface.mkdir(parents=True)
    dev.mkdir()
    for name, text in zip(("idVendor", "idProduct"), usb_id.split(":"), strict=True):
        (device / name).write_text(text)
    (device / "product").write_text(kind.product or kind.name)
    bound = bound or kind.module
    if place := PLACES.get(bound):
        (interface / place).mkdir(parents=True)
        (dev / Path(place).name).touch()
    if bound:
        drivers = root / "sys/bus/usb/drivers" / bound
        drivers.mkdir(parents=True)
        (interface / "driver").symlink_to(drivers)
    links = root / "sys/bus/usb/devices"
    links.mkdir(parents=True)
    (links / "1-2").symlink_to(device)


def found_in(
    root: Path, settings: str = "", *, running: bool = False
) -> tuple[UsbDevice, list[DoctorFinding]]:
    (device,) = discover(str(root / "sys"), str(root / "dev"))
    (root / "c.toml").write_text(settings)
    return device, list(device_findings(device, load(str(root / "c.toml")), running=running))


@pytest.mark.parametrize(
    ("kind", "usb_id", "bound"),
    [
        (kind, usb_id, bound)
        for kind in USB_KINDS.values()
        for usb_id in kind.usb
        for bound in (("", *PLACES, "usbfs") if kind.reader else ("",))
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_each_device_works_or_its_section_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: DeviceKind, usb_id: str, bound: str
) -> None:
    """Each device has no problem; doctor prints a section that configures it."""
    monkeypatch.setattr(shutil, "which", lambda _program: None)
    plug_in(tmp_path, kind, usb_id, bound)
    device, findings = found_in(tmp_path)
    assert [each for each in findings if each.level == "problem"] == []
    written = [each.hint.partition("[[source]]") for each in findings if "[[source]]" in each.hint]
    if kind.driver == ONERNG:
        assert written == []
        return
    ((before, header, settings),) = written
    assert kind.package in before or not kind.package
    assert "modprobe" not in before
    (tmp_path / "c.toml").write_text(header + settings + "\n")
    (section,) = load(str(tmp_path / "c.toml")).sources
    assert (section.driver, section.path or "") == (kind.driver, "" if kind.reader else device.path)


@pytest.mark.parametrize("kind", [DEVICES["TrueRNG"], *READERS], ids=lambda kind: kind.name)
def test_a_configured_device_has_no_advice(tmp_path: Path, kind: DeviceKind) -> None:
    """A device that a source already reads needs no advice, whatever its node."""
    plug_in(tmp_path, kind, kind.usb[0], "cdc_acm")
    path = "" if kind.reader else str(tmp_path / "dev/ttyACM0")
    _, findings = found_in(tmp_path, kind.section(path) + "\n")
    assert all("[[source]]" not in each.hint for each in findings)


@pytest.mark.parametrize("kind", READERS, ids=lambda kind: kind.name)
def test_only_the_reader_of_a_device_may_hold_its_node(tmp_path: Path, kind: DeviceKind) -> None:
    """The program that reads a device may have its node open; rngd may not."""
    plug_in(tmp_path, kind, kind.usb[0], "cdc_acm")
    node = str(tmp_path / "dev/ttyACM0")
    for name, problems in ((kind.reader, 0), ("rngd", 1)):
        program = tmp_path / name
        shutil.copy("/bin/sleep", program)
        with open(node) as opened, subprocess.Popen([name, "60"], stdin=opened, executable=program) as holder:
            try:
                wait_until(
                    lambda name=name: any(each.name == name for each in holders(node)), f"{name} has it"
                )
                for running in (False, True):
                    _, findings = found_in(tmp_path, kind.section() + "\n", running=running)
                    assert sum(each.level == "problem" for each in findings) == problems
            finally:
                holder.kill()


def test_init_is_not_the_advice_for_a_second_source(tmp_path: Path) -> None:
    """`init` adds no source to configured ones, so it is not offered."""
    kind = DEVICES["Infinite Noise"]
    plug_in(tmp_path, kind, kind.usb[0])
    for settings, offered in (("", True), (DEVICES["BitBabbler"].section() + "\n", False)):
        _, (finding,) = found_in(tmp_path, settings)
        assert ("drawwell init" in finding.hint) is offered
