"""Docker and Podman containers."""

from drawwell.guests.docker.engine import Containers
from drawwell.guests.model import GuestKind


def docker(where: str = "") -> Containers:
    """Return Docker; `where` is its socket or the folder of a compose project."""
    return Containers(GuestKind.DOCKER, where)


def podman(where: str = "") -> Containers:
    """Return Podman; `where` is its socket or a folder (project or units)."""
    return Containers(GuestKind.PODMAN, where)
