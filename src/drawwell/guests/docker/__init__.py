"""Containers of Docker and of Podman."""

from drawwell.guests.docker.engine import Containers
from drawwell.guests.model import GuestKind


def docker(where: str = "") -> Containers:
    """Return Docker; `where` is its socket, or the folder of a compose project."""
    return Containers(GuestKind.DOCKER, where)


def podman(where: str = "") -> Containers:
    """Return Podman; `where` is its socket, or the folder of quadlet units or of a compose project."""
    return Containers(GuestKind.PODMAN, where)
