"""Devices and the processes that use them, in fake sysfs trees."""

import os
from pathlib import Path

import pytest

from drawwell.drivers.discovery import discover, find_onerng, stable_name_of
from drawwell.errors import SourceUnavailable
from drawwell.host.holders import holders

CONTROLLER = "devices/pci0000:00/0000:00:14.0"


def plug_in(
    sysfs: Path,
    port: str,
    usb_id: str,
    *,
    node: str = "",
    driver: str = "cdc_acm",
    controller: str = CONTROLLER,
) -> None:
    """Create a device's sysfs: directory, interface, driver, node, links."""
    device = sysfs / controller / f"usb{port.partition('-')[0]}" / port
    interface = device / f"{port}:1.0"
    interface.mkdir(parents=True)
    vendor, product = usb_id.split(":")
    (device / "idVendor").write_text(f"{vendor}\n")
    (device / "idProduct").write_text(f"{product}\n")
    if driver:
        (sysfs / "bus/usb/drivers" / driver).mkdir(parents=True, exist_ok=True)
        (interface / "driver").symlink_to(sysfs / "bus/usb/drivers" / driver)
    if node:
        (interface / "tty" / node).mkdir(parents=True)
    links = sysfs / "bus/usb/devices"
    links.mkdir(parents=True, exist_ok=True)
    (links / port).symlink_to(device)
    (links / f"{port}:1.0").symlink_to(interface)


def test_a_onerng_is_found_with_its_node_and_its_port(tmp_path: Path) -> None:
    """Kind, node, driver and a stable name in the form of udev's ID_PATH."""
    plug_in(tmp_path, "1-1.2", "1d50:6086", node="ttyACM0")
    (device,) = discover(str(tmp_path))
    assert device.kind == "OneRNG"
    assert device.path == "/dev/ttyACM0"
    assert device.stable_name == "pci-0000:00:14.0-usb-0:1.2"
    assert (device.usb_path, device.bound_driver) == ("1-1.2", "cdc_acm")


def test_the_stable_name_does_not_depend_on_numbers(tmp_path: Path) -> None:
    """Another bus number or node for the same port gives the same name."""
    plug_in(tmp_path / "a", "1-4", "1d50:6086", node="ttyACM0")
    plug_in(tmp_path / "b", "3-4", "1d50:6086", node="ttyACM7")
    assert discover(str(tmp_path / "a"))[0].stable_name == discover(str(tmp_path / "b"))[0].stable_name


def test_a_controller_that_is_not_on_pci_has_a_name_too(tmp_path: Path) -> None:
    """A controller on a small board is a platform device."""
    plug_in(tmp_path, "1-1", "1d50:6086", controller="devices/platform/soc/3f980000.usb")
    assert discover(str(tmp_path))[0].stable_name == "platform-3f980000.usb-usb-0:1"


def test_other_known_devices_are_named_and_unknown_ones_left_out(tmp_path: Path) -> None:
    """Known devices are listed; a keyboard is not."""
    plug_in(tmp_path, "1-1", "04d8:f5fe", node="ttyACM1")
    plug_in(tmp_path, "1-2", "046d:c31c")
    plug_in(tmp_path, "1-3", "234b:0001", node="ttyACM2")
    assert [device.kind for device in discover(str(tmp_path))] == ["TrueRNG", "NeuG"]


def test_no_usb_is_no_device(tmp_path: Path) -> None:
    """A container without sysfs has no devices."""
    assert discover(str(tmp_path)) == ()


def test_the_only_onerng_is_taken(tmp_path: Path) -> None:
    """auto selects the only OneRNG."""
    plug_in(tmp_path, "1-1", "1d50:6086", node="ttyACM3")
    plug_in(tmp_path, "1-2", "04d8:f5fe", node="ttyACM1")
    assert find_onerng(str(tmp_path)).path == "/dev/ttyACM3"


def test_no_onerng_has_a_hint(tmp_path: Path) -> None:
    """The hint names the simulator."""
    with pytest.raises(SourceUnavailable, match="no OneRNG") as caught:
        find_onerng(str(tmp_path))
    assert "simulate" in str(caught.value.hint)


def test_two_onerngs_are_listed(tmp_path: Path) -> None:
    """Both sticks have serial number 00, so the hint lists nodes and ports."""
    plug_in(tmp_path, "1-1", "1d50:6086", node="ttyACM0")
    plug_in(tmp_path, "1-2", "1d50:6086", node="ttyACM1")
    with pytest.raises(SourceUnavailable, match="2 OneRNGs") as caught:
        find_onerng(str(tmp_path))
    assert "/dev/ttyACM1 (pci-0000:00:14.0-usb-0:2)" in str(caught.value.hint)


def test_a_onerng_without_driver_names_the_driver(tmp_path: Path) -> None:
    """Without cdc_acm there is no node."""
    plug_in(tmp_path, "1-1", "1d50:6086", driver="")
    assert discover(str(tmp_path))[0].bound_driver == ""
    with pytest.raises(SourceUnavailable, match="no node") as caught:
        find_onerng(str(tmp_path))
    assert "cdc_acm" in str(caught.value.hint)


def test_a_onerng_that_a_virtual_machine_took_is_explained(tmp_path: Path) -> None:
    """The driver usbfs means that a program took it; a hint helps."""
    plug_in(tmp_path, "1-1", "1d50:6086", driver="usbfs")
    with pytest.raises(SourceUnavailable, match="was taken by another process") as caught:
        find_onerng(str(tmp_path), str(tmp_path / "dev"))
    assert "--remove" in str(caught.value.hint)


def test_a_node_is_known_by_its_port_through_any_link(tmp_path: Path) -> None:
    """A link to the node has its stable name; another node has none."""
    dev = tmp_path / "dev"
    dev.mkdir()
    (dev / "ttyACM0").touch()
    (dev / "my-stick").symlink_to("ttyACM0")
    plug_in(tmp_path / "sys", "1-1", "1d50:6086", node="ttyACM0")
    named = [
        stable_name_of(str(dev / node), str(tmp_path / "sys"), str(dev)) for node in ("my-stick", "null")
    ]
    assert named == ["pci-0000:00:14.0-usb-0:1", ""]


def test_other_holders_of_a_file_are_named(tmp_path: Path) -> None:
    """The other process is listed by number and name; this one is not."""
    held = tmp_path / "held"
    held.touch()
    for pid, name in ((os.getpid(), "pytest"), (4242, "ModemManager")):
        (tmp_path / "proc" / str(pid) / "fd").mkdir(parents=True)
        (tmp_path / "proc" / str(pid) / "comm").write_text(f"{name}\n")
        (tmp_path / "proc" / str(pid) / "fd/7").symlink_to(held)
    (tmp_path / "proc/uptime").touch()
    (tmp_path / "proc/77").mkdir()
    found = holders(str(held), str(tmp_path / "proc"))
    assert [(holder.pid, holder.name) for holder in found] == [(4242, "ModemManager")]


def test_a_board_with_pci_has_the_board_in_its_name(tmp_path: Path) -> None:
    """If PCI is part of the board, udev's ID_PATH names both."""
    board = "devices/platform/scb/fd500000.pcie"
    plug_in(tmp_path, "1-1.2", "1d50:6086", controller=f"{board}/pci0000:00/0000:00:00.0/0000:01:00.0")
    (tmp_path / "bus/platform").mkdir()
    (tmp_path / board / "subsystem").symlink_to(tmp_path / "bus/platform")
    assert discover(str(tmp_path))[0].stable_name == "platform-fd500000.pcie-pci-0000:01:00.0-usb-0:1.2"


def show_numbers(sysfs: Path, numbers: str, node: str = "ttyACM0") -> None:
    (entry,) = sysfs.glob(f"devices/**/tty/{node}")
    (entry / "dev").write_text(f"{numbers}\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="making a device node needs root")
@pytest.mark.parametrize("name", ["ttyACM0", "onerng"])
def test_a_node_that_was_passed_through_is_known_by_its_numbers(tmp_path: Path, name: str) -> None:
    """In a container a node with any name is identified by sysfs's numbers."""
    plug_in(tmp_path / "sys", "1-1.2", "1d50:6086", node="ttyACM0")
    show_numbers(tmp_path / "sys", "166:0")
    dev = tmp_path / "dev"
    dev.mkdir()
    os.mknod(dev / "aaa", 0o600 | 0o020000, os.makedev(166, 7))
    os.mknod(dev / name, 0o600 | 0o020000, os.makedev(166, 0))
    assert discover(str(tmp_path / "sys"), str(dev))[0].path == str(dev / name)


@pytest.mark.skipif(os.geteuid() != 0, reason="making a device node needs root")
def test_a_node_with_the_right_name_and_other_numbers_is_another_device(tmp_path: Path) -> None:
    """A container can see a host device in sysfs without having its node."""
    plug_in(tmp_path / "sys", "1-1.2", "1d50:6086", node="ttyACM0")
    show_numbers(tmp_path / "sys", "166:0")
    dev = tmp_path / "dev"
    dev.mkdir()
    os.mknod(dev / "ttyACM0", 0o600 | 0o020000, os.makedev(5, 1))
    (device,) = discover(str(tmp_path / "sys"), str(dev))
    assert (device.path, device.bound_driver) == ("", "cdc_acm")
