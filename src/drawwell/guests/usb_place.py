"""Where the kernel has the stick now: libvirt goes by bus and number, and the number is another after each plugging."""

import os
from typing import Final

from drawwell.errors import GuestUnavailable
from drawwell.guests.plan_qemu import ONERNG_PRODUCT, ONERNG_VENDOR

USB: Final = "/sys/bus/usb/devices"
_PORTS: Final = "'drawwell source list' names the ports."


def place_of(port: str, usb: str = USB) -> tuple[int, int]:
    """Return bus and number of what is plugged in at a port, such as ``1-1.2``, or of the only OneRNG where it is "".

    Raises:
        GuestUnavailable: nothing is there, or there are several.
    """
    ports = [os.path.basename(port)] if port else [each for each in _entries(usb) if _is_onerng(usb, each)]
    if len(ports) > 1:
        raise GuestUnavailable(f"there are {len(ports)} sticks", hint=f"Name one with --device; {_PORTS}")
    bus, number = (_number(os.path.join(usb, *ports, each), 10) for each in ("busnum", "devnum"))
    if bus is None or number is None:
        raise GuestUnavailable(
            f"there is no stick at {port or 'any USB port'}",
            hint=f"Plug it in; {_PORTS} A domain that is shut off is given it all the same, and starts without it.",
        )
    return bus, number


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
