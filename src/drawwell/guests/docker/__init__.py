"""Docker's containers."""

from drawwell.guests.docker.engine import Containers
from drawwell.guests.model import Hypervisor, Kind


def hypervisor(where: str = "") -> Hypervisor:
    """Return Docker; `where` is its socket, or the folder of a compose project."""
    return Containers(Kind.DOCKER, where)
