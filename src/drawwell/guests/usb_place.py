"""Where the kernel has the stick now, and who took it from there.

libvirt goes by bus and number, and the number is another after each plugging. QEMU takes it by usbfs, the kernel's
way for programs, from the kernel's own driver; a QEMU that is killed does not give it back.
"""

import os
from typing import Final

from drawwell.errors import GuestUnavailable
from drawwell.guests.plan_stick import ONERNG_PRODUCT, ONERNG_VENDOR
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
    """Return who has taken the stick at that port from the kernel's driver, as far as we may look; None for nobody."""
    if _USBFS not in _drivers(usb, port):
        return None
    bus, number = place_of(port, usb)
    return holders(f"{dev}/{bus:03d}/{number:03d}", proc)


def give_back(port: str, usb: str = USB) -> list[str]:
    """Have the kernel's driver take sticks that nobody has, which a killed QEMU left so; return their ports.

    Those that somebody has are left alone, and without the right to write there nothing is done.
    """
    left = [each for each in sticks(port, usb) if not any(_drivers(usb, each))]
    offered = {each: [_offer(usb, interface) for interface in _interfaces(usb, each)] for each in left}
    return [each for each, done in offered.items() if done and all(done)]


def _interfaces(usb: str, port: str) -> list[str]:
    return [each for each in _entries(usb) if each.startswith(f"{port}:")]


def _drivers(usb: str, port: str) -> list[str]:
    """The drivers of a device's interfaces, "" for one that has none."""
    links = [os.path.join(usb, each, "driver") for each in _interfaces(usb, port)]
    return [os.path.basename(os.readlink(each)) if os.path.islink(each) else "" for each in links]


def _offer(usb: str, interface: str) -> bool:
    """Offer an interface to the drivers (drivers_probe, drivers/base/bus.c)."""
    try:
        with open(os.path.join(os.path.dirname(usb), "drivers_probe"), "r+b", buffering=0) as file:
            file.write(interface.encode())
    except OSError:
        return False
    return True


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
