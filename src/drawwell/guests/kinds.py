"""Which module manages which kind of guest. It is imported only when that kind is used."""

import importlib
from collections.abc import Callable
from typing import Final, cast

from drawwell.guests.model import Hypervisor, Kind

MAKERS: Final = {
    Kind.QEMU: ("qemu", "hypervisor"),
    Kind.LIBVIRT: ("libvirt", "hypervisor"),
    Kind.LXC: ("lxc", "hypervisor"),
    Kind.INCUS: ("incus", "hypervisor"),
    Kind.DOCKER: ("docker", "docker"),
    Kind.PODMAN: ("docker", "podman"),
}
"""For each kind, the room below ``guests`` and the function in it."""


def hypervisor(kind: Kind, where: str = "") -> Hypervisor:
    """Return the software that runs guests of that kind, without contacting it.

    `where` is a QMP socket, a libvirt URI, a directory of LXC, or the socket of Incus, Docker or Podman; "" is the
    software's default.
    """
    room, function = MAKERS[kind]
    module = importlib.import_module(f"drawwell.guests.{room}")
    return cast("Callable[[str], Hypervisor]", getattr(module, function))(where)
