"""Findings about every kind of device, with a fake sysfs."""

import shutil
from pathlib import Path

import pytest

from drawwell.cli.doctor.devices import device_findings
from drawwell.config.devices import DEVICES, DeviceKind
from drawwell.config.drivers import ONERNG
from drawwell.config.load import load
from drawwell.drivers.discovery import discover

USB_KINDS = {name: kind for name, kind in DEVICES.items() if kind.usb}


def plug_in(root: Path, kind: DeviceKind, usb_id: str) -> None:
    """Create a device's sysfs entries and node."""
    device, dev = root / "sys/devices/pci0000:00/0000:00:14.0/usb1/1-2", root / "dev"
    interface = device / "1-2:1.0"
    interface.mkdir(parents=True)
    dev.mkdir()
    for name, text in zip(("idVendor", "idProduct"), usb_id.split(":"), strict=True):
        (device / name).write_text(text)
    (device / "product").write_text(kind.product or kind.name)
    if kind.node:
        folder = "tty" if kind.node == "ttyACM" else "usbmisc"
        (interface / folder / f"{kind.node}0").mkdir(parents=True)
        (dev / f"{kind.node}0").touch()
        drivers = root / "sys/bus/usb/drivers" / kind.module
        drivers.mkdir(parents=True)
        (interface / "driver").symlink_to(drivers)
    links = root / "sys/bus/usb/devices"
    links.mkdir(parents=True)
    (links / "1-2").symlink_to(device)


@pytest.mark.parametrize(
    ("kind", "usb_id"),
    [(kind, usb_id) for kind in USB_KINDS.values() for usb_id in kind.usb],
    ids=[usb_id for kind in USB_KINDS.values() for usb_id in kind.usb],
)
def test_each_device_works_or_its_section_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: DeviceKind, usb_id: str
) -> None:
    """Each device has no problem; doctor prints a section that configures it."""
    monkeypatch.setattr(shutil, "which", lambda _program: None)
    plug_in(tmp_path, kind, usb_id)
    (device,) = discover(str(tmp_path / "sys"), str(tmp_path / "dev"))
    (tmp_path / "c.toml").write_text("")
    findings = list(device_findings(device, load(str(tmp_path / "c.toml")), running=False))
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
    assert (section.driver, section.path or "") == (kind.driver, device.path)


def test_a_configured_device_has_no_advice(tmp_path: Path) -> None:
    """A device that a source already reads needs no advice."""
    for name in ("TrueRNG", "Infinite Noise"):
        kind, root = DEVICES[name], tmp_path / name
        plug_in(root, kind, kind.usb[0])
        (device,) = discover(str(root / "sys"), str(root / "dev"))
        (root / "c.toml").write_text(kind.section(device.path) + "\n")
        findings = device_findings(device, load(str(root / "c.toml")), running=False)
        assert all("[[source]]" not in each.hint for each in findings)
