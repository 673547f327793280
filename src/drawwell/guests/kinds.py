"""Selects the module for each kind of guest and imports it on first use."""

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
"""The package below ``guests``, and its function, for each kind of guest."""


def hypervisor(kind: GuestKind, where: str = "") -> Hypervisor:
    """Return the adapter for guests of this kind, without connecting to it.

    `where` is a QMP socket, a libvirt URI, a directory (LXC, nspawn, Proxmox), a socket
    (Incus, Docker, Podman) or Firecracker's vsock path; "" for the default.
    """
    room, function = MAKERS[kind]
    module = importlib.import_module(f"drawwell.guests.{room}")
    return cast("Callable[[str], Hypervisor]", getattr(module, function))(where)
