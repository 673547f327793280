"""Pure: the plan for Incus and LXD (instance devices and LXC keys).

Sources in Incus: doc/reference/devices_disk, devices_unix_hotplug; instance option raw.lxc.
"""

import shlex
from collections.abc import Mapping
from typing import Final

from drawwell.errors import UsageError
from drawwell.guests.edit.block import Block
from drawwell.guests.edit.quoting import (
    DIALOUT,
    DIRECT,
    INSIDE,
    NODE,
    ONE_READER,
    SHARED,
    container_name,
    socket_directory,
    stick,
)
from drawwell.guests.lxc.plan import RUN, socket_mount
from drawwell.guests.model import Attachment, Guest, GuestKind, Piece, Plan

DEVICE: Final = "drawwell"
"""The name of our device in an instance."""
RAW_LXC: Final = "raw.lxc"


def device(guest: Guest) -> Mapping[str, str]:
    """Return the device in the API's format.

    Raises:
        UsageError: a path cannot be written safely.
    """
    if guest.via is Attachment.SOCKET:
        source = socket_directory(guest)
        return {"type": "disk", "source": source, "path": INSIDE, "readonly": "true", "required": "false"}
    found = {"type": "unix-hotplug", "vendorid": "1d50", "productid": "6086"}
    if guest.device:
        found = {"type": "unix-char", "source": _in_dev(stick(guest)), "path": NODE}
    return found | {"required": "false", "gid": str(DIALOUT), "mode": "0660"}


def _in_dev(path: str) -> str:
    if not path.startswith("/dev/"):
        raise UsageError(
            f"Incus accepts only devices in /dev, not {path}",
            hint="Use the stick's link in /dev/serial/by-path.",
        )
    return path


def raw_block(guest: Guest) -> Block | None:
    """Return the keys that mount the directory before systemd mounts /run."""
    if guest.via is not Attachment.SOCKET:
        return None
    return Block("incus", container_name(guest), (RUN, socket_mount(guest)))


def plan(guest: Guest) -> Plan:
    """Return the commands that create `device` and `raw_block`.

    Raises:
        UsageError: a name or a path cannot be written safely.
    """
    name = container_name(guest)
    settings = [f"{key}={value}" for key, value in device(guest).items() if key != "type"]
    add = ["incus", "config", "device", "add", name, DEVICE, device(guest)["type"], *settings]
    pieces = [Piece("Incus device", "command", shlex.join(add) + "\n")]
    if raw := raw_block(guest):
        pieces.append(
            Piece("Incus, for every start after this one", f"incus config edit: {RAW_LXC}", raw.text())
        )
    notes = (DIRECT, _OWNER, _RAW) if guest.via is Attachment.SOCKET else (ONE_READER, _HOTPLUG)
    return Plan(guest.name, GuestKind.INCUS, guest.via, tuple(pieces), (SHARED, *notes, _LXD, _MACHINES))


_OWNER: Final = (
    "Root in an unprivileged instance has another ID on the host (volatile.idmap.current). That ID must own the "
    "guest's socket. 'drawwell guest apply' sets this owner."
)
_RAW: Final = (
    "The device appears at once. At the next start, systemd in the instance would mount its own /run over the "
    "device and hide it; raw.lxc prevents this."
)
_HOTPLUG: Final = (
    "Incus finds the stick by vendor and product, and adds and removes it when it is plugged and unplugged. The stick "
    "keeps the host's number in the instance: look for /dev/ttyACM*."
)
_LXD: Final = "For LXD, run 'lxc' instead of 'incus'."
_MACHINES: Final = "An instance that is a virtual machine has its own kernel: use kind qemu for it."
