"""Which module speaks for which kind of guest. It is imported when it is asked for, and not before."""

import importlib
from collections.abc import Callable
from typing import cast

from drawwell.guests.model import Hypervisor, Kind


def hypervisor(kind: Kind, where: str = "") -> Hypervisor:
    """Return the software that runs guests of that kind; nothing is opened or asked yet.

    Each module ``guests/<kind>.py`` has a function of this name that takes `where`: a QMP socket, a libvirt URI, a
    directory of LXC, the socket of Incus, Docker or Podman; "" is where that software usually is.
    """
    module = importlib.import_module(f"drawwell.guests.{kind}")
    return cast("Callable[[str], Hypervisor]", module.hypervisor)(where)
