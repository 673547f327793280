"""Which module manages which kind of guest. It is imported only when that kind is used."""

import importlib
from collections.abc import Callable
from typing import Final, cast

from drawwell.guests.model import GuestKind, Hypervisor

MAKERS: Final = {
    GuestKind.QEMU: ("qemu", "hypervisor"),
    GuestKind.LIBVIRT: ("libvirt", "hypervisor"),
    GuestKind.LXC: ("lxc", "hypervisor"),
    GuestKind.INCUS: ("incus", "hypervisor"),
    GuestKind.DOCKER: ("docker", "docker"),
    GuestKind.PODMAN: ("docker", "podman"),
    GuestKind.PROXMOX: ("proxmox", "hypervisor"),
    GuestKind.NSPAWN: ("nspawn", "hypervisor"),
    GuestKind.FIRECRACKER: ("firecracker", "hypervisor"),
}
"""For each kind, the room below ``guests`` and the function in it."""


def hypervisor(kind: GuestKind, where: str = "") -> Hypervisor:
    """Return the software that runs guests of that kind, without contacting it.

    `where` is a QMP socket, a libvirt URI, a directory of LXC, of nspawn's settings or of Proxmox's configurations,
    the socket of Incus, Docker or Podman, or the path of Firecracker's vsock; "" is the software's default.
    """
    room, function = MAKERS[kind]
    module = importlib.import_module(f"drawwell.guests.{room}")
    return cast("Callable[[str], Hypervisor]", getattr(module, function))(where)
