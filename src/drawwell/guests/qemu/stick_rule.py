"""The rule by which a stick that is plugged in is given to its guest. Pure: text out (udev(7)).

BitBabbler's bbvirt does the like for its own stick.
"""

import re
from typing import Final

from drawwell.guests.model import Guest, Piece

ONERNG_VENDOR: Final = 0x1D50
ONERNG_PRODUCT: Final = 0x6086
_WORD: Final = re.compile(r"[A-Za-z0-9_./+@:-]+", re.ASCII)
"""What needs no quotes in a rule."""


def hotplug_pieces(guest: Guest, connect: str = "") -> list[Piece]:
    """Return the rule as a piece of the plan; none where a name cannot stand in a rule."""
    words = [each for each in (guest.target, guest.device, connect) if each]
    if not all(_WORD.fullmatch(each) for each in words):
        return []
    return [Piece("hook: the stick is plugged in", rule_path(guest), rule(guest, connect))]


def rule_path(guest: Guest) -> str:
    """Return the file of a guest's rule."""
    return f"/etc/udev/rules.d/85-drawwell-{guest.name}.rules"


def rule(guest: Guest, connect: str = "") -> str:
    """Return the rule that gives the stick to the guest whenever it is plugged in: `guest apply`, once more.

    Args:
        guest: The guest; its `device` is the only port at which the rule holds.
        connect: Where the host's software answers, "" for the usual place.
    """
    port = f'KERNEL=="{guest.device}", ' if guest.device else ""
    words = ["drawwell", "guest", "apply", guest.kind, guest.name, "--via", "usb", "--yes"]
    for option, value in (("--domain", guest.domain), ("--device", guest.device), ("--connect", connect)):
        words += [option, value] if value else []
    return (
        'ACTION=="add", SUBSYSTEM=="usb", ENV{DEVTYPE}=="usb_device", '
        f'ATTR{{idVendor}}=="{ONERNG_VENDOR:04x}", ATTR{{idProduct}}=="{ONERNG_PRODUCT:04x}", {port}'
        f'RUN+="/usr/bin/systemd-run --no-block --collect {" ".join(words)}"\n'
    )
