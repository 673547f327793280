"""Pure: the udev rule that gives a plugged-in stick to its guest.

See udev(7). BitBabbler's bbvirt does the same for BitBabbler devices.
"""

import re
from typing import Final

from drawwell.guests.model import Guest, Piece

ONERNG_VENDOR: Final = 0x1D50
ONERNG_PRODUCT: Final = 0x6086
_PLAIN: Final = re.compile(r"[A-Za-z0-9_./+@:-]+", re.ASCII)
"""Values that need no quoting in a rule."""


def hotplug_pieces(guest: Guest, connect: str = "") -> list[Piece]:
    """Return the rule as part of the plan; empty if a name needs quoting."""
    values = [each for each in (guest.target, guest.device, connect) if each]
    if not all(_PLAIN.fullmatch(each) for each in values):
        return []
    return [Piece("hook: the stick is plugged in", rule_path(guest), rule(guest, connect))]


def rule_path(guest: Guest) -> str:
    """Return the path of a guest's rule."""
    return f"/etc/udev/rules.d/85-drawwell-{guest.name}.rules"


def rule(guest: Guest, connect: str = "") -> str:
    """Return the rule that runs `guest apply` when the stick is plugged in.

    Args:
        guest: The guest; its `device` limits the rule to this port.
        connect: The value of ``--connect``, or "".
    """
    port = f'KERNEL=="{guest.device}", ' if guest.device else ""
    command = ["drawwell", "guest", "apply", guest.kind, guest.name, "--via", "usb", "--yes"]
    for option, value in (("--domain", guest.domain), ("--device", guest.device), ("--connect", connect)):
        command += [option, value] if value else []
    return (
        'ACTION=="add", SUBSYSTEM=="usb", ENV{DEVTYPE}=="usb_device", '
        f'ATTR{{idVendor}}=="{ONERNG_VENDOR:04x}", ATTR{{idProduct}}=="{ONERNG_PRODUCT:04x}", {port}'
        f'RUN+="/usr/bin/systemd-run --no-block --collect {" ".join(command)}"\n'
    )
