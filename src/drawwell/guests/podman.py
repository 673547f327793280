"""Podman's containers."""

from drawwell.guests.docker.engine import Containers
from drawwell.guests.model import Hypervisor, Kind


def hypervisor(where: str = "") -> Hypervisor:
    """Return Podman; `where` is its socket, or the folder of quadlet units or of a compose project."""
    return Containers(Kind.PODMAN, where)
