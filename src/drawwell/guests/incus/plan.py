"""What Incus is told, and LXD, whose devices are the same: devices of an instance, and keys for LXC below. Pure.

Incus: doc/reference/devices_disk, devices_unix_hotplug; instance option raw.lxc.
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
"""What our device is called in an instance."""
RAW_LXC: Final = "raw.lxc"


def device(guest: Guest) -> Mapping[str, str]:
    """Return the device as the API takes it.

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
            f"Incus takes devices from /dev only, and {path} is not there",
            hint="Name the stick by its link in /dev/serial/by-path.",
        )
    return path


def raw_block(guest: Guest) -> Block | None:
    """Return the keys that mount the directory at every start, before systemd mounts its /run over it."""
    if guest.via is not Attachment.SOCKET:
        return None
    return Block("incus", container_name(guest), (RUN, socket_mount(guest)))


def plan(guest: Guest) -> Plan:
    """Return the commands for a terminal; `device` and `raw_block` are the same for the API.

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
    "Root of an unprivileged instance is somebody else out here (volatile.idmap.current): the guest's socket must "
    "belong to that user, and 'drawwell guest apply' sees to it."
)
_RAW: Final = (
    "The device is there at once. raw.lxc brings it back at the next start: systemd in the instance mounts its own "
    "/run over a disk device, and would hide it."
)
_HOTPLUG: Final = (
    "The stick is known by vendor and product, comes and goes with it, and has the host's number in the instance: look "
    "for /dev/ttyACM*."
)
_LXD: Final = "LXD takes the same with 'lxc' for 'incus'."
_MACHINES: Final = "An instance that is a virtual machine has a kernel of its own: plan it as kind qemu."
