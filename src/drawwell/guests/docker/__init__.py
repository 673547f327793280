"""Containers of Docker and of Podman."""

from drawwell.guests.docker.engine import Containers
from drawwell.guests.model import Kind


def docker(where: str = "") -> Containers:
    """Return Docker; `where` is its socket, or the folder of a compose project."""
    return Containers(Kind.DOCKER, where)


def podman(where: str = "") -> Containers:
    """Return Podman; `where` is its socket, or the folder of quadlet units or of a compose project."""
    return Containers(Kind.PODMAN, where)
