"""Where the kernel has the stick now, and who took it from there.

libvirt goes by bus and number, and the number is another after each plugging. QEMU takes it by usbfs, the kernel's
way for programs, from the kernel's own driver; a QEMU that is killed does not give it back.
"""

import os
from typing import Final

from drawwell.errors import GuestUnavailable
from drawwell.guests.qemu.stick_rule import ONERNG_PRODUCT, ONERNG_VENDOR
from drawwell.host.holders import Holder, holders

USB: Final = "/sys/bus/usb/devices"
DEV: Final = "/dev/bus/usb"
_USBFS: Final = "usbfs"
_PORTS: Final = "'drawwell source list' names the ports."


def place_of(port: str, usb: str = USB) -> tuple[int, int]:
    """Return bus and number of what is plugged in at a port, such as ``1-1.2``, or of the only OneRNG where it is "".

    Raises:
        GuestUnavailable: nothing is there, or there are several.
    """
    ports = [os.path.basename(port)] if port else sticks("", usb)
    if len(ports) > 1:
        raise GuestUnavailable(f"there are {len(ports)} sticks", hint=f"Name one with --device; {_PORTS}")
    bus, number = (_number(os.path.join(usb, *ports, each), 10) for each in ("busnum", "devnum"))
    if bus is None or number is None:
        raise GuestUnavailable(
            f"there is no stick at {port or 'any USB port'}",
            hint=f"Plug it in; {_PORTS} A domain that is shut off is given it all the same, and starts without it.",
        )
    return bus, number


def sticks(port: str, usb: str = USB) -> list[str]:
    """Return the port of the stick there, or the ports of all OneRNGs where it is ""; none that is empty."""
    return [each for each in _entries(usb) if _is_onerng(usb, each) and port in {"", each}]


def taken(port: str, usb: str = USB, dev: str = DEV, proc: str = "/proc") -> tuple[Holder, ...] | None:
    """Return who has taken the stick at that port from the kernel's driver, as far as we may look; None for nobody.

    Before its guest has a driver for it, QEMU has the node open and has claimed nothing by usbfs.
    """
    drivers = _drivers(usb, port)
    if not {"", _USBFS}.issuperset(drivers):
        return None
    bus, number = place_of(port, usb)
    found = holders(f"{dev}/{bus:03d}/{number:03d}", proc)
    return found if found or _USBFS in drivers else None


def give_back(port: str, usb: str = USB) -> list[str]:
    """Have the kernel's driver take sticks that nobody has, which a killed QEMU left so; return their ports.

    Those that somebody has are left alone, and without the right to write there nothing is done.
    """
    left = [each for each in sticks(port, usb) if not any(_drivers(usb, each)) and taken(each, usb) is None]
    return [each for each in left if _offer(usb, each)]


def _interfaces(usb: str, port: str) -> list[str]:
    return [each for each in _entries(usb) if each.startswith(f"{port}:")]


def _drivers(usb: str, port: str) -> list[str]:
    """The drivers of a device's interfaces, "" for one that has none."""
    links = [os.path.join(usb, each, "driver") for each in _interfaces(usb, port)]
    return [os.path.basename(os.readlink(each)) if os.path.islink(each) else "" for each in links]


def _offer(usb: str, port: str) -> bool:
    """Offer a device's interfaces to the drivers, but what came with another (drivers/base/bus.c)."""
    probe = os.path.join(os.path.dirname(usb), "drivers_probe")
    try:
        for interface in _interfaces(usb, port):
            if not os.path.islink(os.path.join(usb, interface, "driver")):
                _write(probe, interface)
    except OSError:
        return False
    return True


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)  # sysfs lets nobody read it
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
