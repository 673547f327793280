"""The stick's place in the kernel, and the processes that use it.

libvirt identifies the stick by bus and number, which change when it is replugged. QEMU uses
usbfs to detach the stick from the kernel's driver. A killed QEMU does not reattach the driver.
"""

import os
from typing import Final

from drawwell.errors import GuestUnavailable
from drawwell.guests.qemu.stick_rule import ONERNG_PRODUCT, ONERNG_VENDOR
from drawwell.host.holders import Holder, holders

USB: Final = "/sys/bus/usb/devices"
DEV: Final = "/dev/bus/usb"
_USBFS: Final = "usbfs"
_PORTS: Final = "'drawwell source list' lists the ports."


def place_of(port: str, usb: str = USB) -> tuple[int, int]:
    """Return bus and number of the device at a port, or of the only OneRNG.

    Raises:
        GuestUnavailable: there is no stick, or there are several.
    """
    ports = [os.path.basename(port)] if port else sticks("", usb)
    if len(ports) > 1:
        raise GuestUnavailable(f"there are {len(ports)} sticks", hint=f"Select one with --device; {_PORTS}")
    bus, number = (_number(os.path.join(usb, *ports, each), 10) for each in ("busnum", "devnum"))
    if bus is None or number is None:
        raise GuestUnavailable(
            f"there is no stick at {port or 'any USB port'}",
            hint=f"Plug it in; {_PORTS} A domain that is shut off stays configured, and starts without the stick.",
        )
    return bus, number


def sticks(port: str, usb: str = USB) -> list[str]:
    """Return the ports of OneRNGs: all of them, or only `port`."""
    return [each for each in _entries(usb) if _is_onerng(usb, each) and port in {"", each}]


def taken(port: str, usb: str = USB, dev: str = DEV, proc: str = "/proc") -> tuple[Holder, ...] | None:
    """Return the visible processes that use the stick; None if it is free.

    If a guest has no driver yet, its QEMU has the node open but has not claimed the stick.
    """
    drivers = _drivers(usb, port)
    if not {"", _USBFS}.issuperset(drivers):
        return None
    bus, number = place_of(port, usb)
    found = holders(f"{dev}/{bus:03d}/{number:03d}", proc)
    return found if found or _USBFS in drivers else None


def give_back(port: str, usb: str = USB) -> list[str]:
    """Rebind sticks that a killed QEMU detached from the kernel's driver.

    Return their ports. Skip sticks in use. Do nothing without permission.
    """
    left = [each for each in sticks(port, usb) if not any(_drivers(usb, each)) and taken(each, usb) is None]
    return [each for each in left if _offer(usb, each)]


def _interfaces(usb: str, port: str) -> list[str]:
    return [each for each in _entries(usb) if each.startswith(f"{port}:")]


def _drivers(usb: str, port: str) -> list[str]:
    """Return the drivers of a device's interfaces; "" if one has no driver."""
    links = [os.path.join(usb, each, "driver") for each in _interfaces(usb, port)]
    return [os.path.basename(os.readlink(each)) if os.path.islink(each) else "" for each in links]


def _offer(usb: str, port: str) -> bool:
    """Make the kernel probe a device's unbound interfaces (bus.c)."""
    probe = os.path.join(os.path.dirname(usb), "drivers_probe")
    try:
        for interface in _interfaces(usb, port):
            if not os.path.islink(os.path.join(usb, interface, "driver")):
                _write(probe, interface)
    except OSError:
        return False
    return True


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)  # the file is write-only
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _entries(usb: str) -> list[str]:
    try:
        return sorted(os.listdir(usb))
    except OSError:
        return []


def _is_onerng(usb: str, entry: str) -> bool:
    vendor, product = (_number(os.path.join(usb, entry, each), 16) for each in ("idVendor", "idProduct"))
    return (vendor, product) == (ONERNG_VENDOR, ONERNG_PRODUCT)


def _number(path: str, base: int) -> int | None:
    try:
        with open(path, "rb") as file:
            return int(file.read(16), base)
    except (OSError, ValueError):
        return None
