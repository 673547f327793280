"""Finding a stick by its port, or as the only stick."""

from pathlib import Path

import pytest

from drawwell.errors import GuestUnavailable
from drawwell.guests.qemu.usb_port import give_back, place_of, sticks, taken


def plug(usb: Path, port: str, number: int, product: str = "6086") -> None:
    entry = usb / port
    entry.mkdir()
    for name, text in {
        "idVendor": "1d50",
        "idProduct": product,
        "busnum": "1",
        "devnum": str(number),
    }.items():
        (entry / name).write_text(f"{text}\n")


def test_a_stick_is_found_by_its_port_or_as_the_only_one(tmp_path: Path) -> None:
    """Other devices do not count; with two sticks the port decides."""
    plug(tmp_path, "1-1", 4)
    plug(tmp_path, "1-2", 5, product="0002")
    assert place_of("", str(tmp_path)) == (1, 4)
    plug(tmp_path, "1-3", 9)
    assert place_of("1-3", str(tmp_path)) == (1, 9)
    with pytest.raises(GuestUnavailable, match="2 sticks"):
        place_of("", str(tmp_path))


@pytest.mark.parametrize("port", ["", "1-1", "../1-1"])
def test_a_missing_stick_is_an_error(port: str, tmp_path: Path) -> None:
    """An empty port, or a host without USB, is an error."""
    with pytest.raises(GuestUnavailable, match="no stick"):
        place_of(port, str(tmp_path / "none"))


def bind(usb: Path, interface: str, driver: str) -> None:
    """Create an interface with its driver, or "" for none."""
    (usb / interface).mkdir()
    if driver:
        (usb / interface / "driver").symlink_to(f"../../drivers/{driver}")


def test_the_process_that_has_the_stick_is_named(tmp_path: Path) -> None:
    """With usbfs the program is named; with the kernel's driver there is none."""
    usb, node = tmp_path / "usb", tmp_path / "dev/001/004"
    usb.mkdir()
    plug(usb, "1-1", 4)
    plug(usb, "1-2", 5)
    bind(usb, "1-1:1.0", "usbfs")
    bind(usb, "1-2:1.0", "cdc_acm")
    node.parent.mkdir(parents=True)
    node.touch()
    (tmp_path / "proc/42/fd").mkdir(parents=True)
    (tmp_path / "proc/42/fd/9").symlink_to(node)
    (tmp_path / "proc/42/comm").write_text("qemu-system-x86\n")
    found = taken("1-1", str(usb), str(tmp_path / "dev"), str(tmp_path / "proc"))
    assert [(each.pid, each.name) for each in found or ()] == [(42, "qemu-system-x86")]
    assert taken("1-2", str(usb)) is None
    assert (sticks("", str(usb)), sticks("1-2", str(usb)), sticks("1-3", str(usb))) == (
        ["1-1", "1-2"],
        ["1-2"],
        [],
    )


def test_only_unused_sticks_are_given_back(tmp_path: Path) -> None:
    """Only interfaces without a driver are returned to the kernel."""
    usb = tmp_path / "devices"
    usb.mkdir()
    for port, driver in (("1-1", ""), ("1-2", "usbfs"), ("1-3", "cdc_acm")):
        plug(usb, port, 1)
        bind(usb, f"{port}:1.0", driver)
    assert give_back("", str(usb)) == [], "there is no such file to write to"
    (tmp_path / "drivers_probe").touch()
    assert give_back("1-2", str(usb)) == []
    assert give_back("", str(usb)) == ["1-1"]
    assert (tmp_path / "drivers_probe").read_text() == "1-1:1.0"
