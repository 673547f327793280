"""Firecracker's virtual machines, connected by vsock.

Firecracker maps the vsock to Unix sockets on the host (docs/vsock.md of Firecracker). If a
guest connects to port N of the host (CID 2), Firecracker connects to the socket ``PATH_N``;
PATH is the ``uds_path``. We make ``PATH_N`` a link to the guest's own socket, so the host
needs no AF_VSOCK. Firecracker's entropy device always uses the host's kernel.
"""

import os
import stat
from typing import Final

from drawwell.errors import GuestUnavailable, UsageError
from drawwell.guests.edit.files import refused
from drawwell.guests.edit.quoting import DIRECT, INSIDE
from drawwell.guests.model import Change, Guest, GuestFacts, GuestKind, Hypervisor, Inside, Piece, Plan

PORT: Final = 55_000
"""The vsock port: the same number as the TLS door's port."""
_HOST: Final = 2
"""VMADDR_CID_HOST (vsock(7))."""
_NO_PATH: Final = "Set --connect PATH to the uds_path of its vsock, as in PUT /vsock."
_BRIDGE: Final = (
    f"mkdir -p {INSIDE}\nsocat UNIX-LISTEN:{INSIDE}/draw.sock,fork,mode=666 VSOCK-CONNECT:{_HOST}:{PORT} &\n"
)
_NOTES: Final = (
    "Any process in the guest draws as that guest, because Firecracker makes the connection.",
    "In a jail (jailer), the link has no target: mount the guest's socket there (mount --bind).",
    "This does not feed the guest's kernel: run drawwell in the guest with [kernel] feed = true.",
)


class Firecracker:
    """A `Hypervisor`; `where` is the ``uds_path`` of one machine's vsock."""

    def __init__(self, where: str = "") -> None:
        self._where = os.path.abspath(where) if where else ""

    def plan(self, guest: Guest) -> Plan:
        """See `Hypervisor`."""
        link = Piece("the door of its vsock", self._link(), f"link to {guest.socket}\n")
        bridge = Piece("in the guest", "paste", _BRIDGE)
        return Plan(guest.name, GuestKind.FIRECRACKER, guest.via, (link, bridge), (DIRECT, *_NOTES))

    def require(self, guest: Guest) -> None:
        """See `Hypervisor`: check only the path; the vsock may be created later."""
        del guest
        self._path()

    def owner(self, guest: Guest) -> tuple[int | None, int | None]:
        """Return the user that runs Firecracker and owns the socket."""
        del guest
        try:
            found = os.stat(self._path())
        except OSError:
            return None, None
        return (found.st_uid, found.st_gid) if found.st_uid else (None, None)

    def apply(self, guest: Guest) -> list[Change]:
        """See `Hypervisor`: create the link unless its path is already in use."""
        link, target = self._link(), guest.socket
        if not os.path.isdir(os.path.dirname(link)):
            raise GuestUnavailable(f"{os.path.dirname(link)} is not a directory", hint=_NO_PATH)
        if os.path.islink(link) and os.readlink(link) == target:
            return []
        try:
            os.symlink(target, link)
        except FileExistsError:
            raise GuestUnavailable(
                f"{link} exists and is not ours", hint="Check its owner with 'ls -l', then remove it."
            ) from None
        except OSError as error:
            raise refused(link, error) from error
        return [Change(f"linked port {PORT} of the vsock to {target}", link)]

    def remove(self, guest: Guest) -> list[Change]:
        """See `Hypervisor`: remove only our own link."""
        link = self._link()
        if not (os.path.islink(link) and os.readlink(link) == guest.socket):
            return []
        try:
            os.unlink(link)
        except OSError as error:
            raise refused(link, error) from error
        return [Change("deleted", link)]

    def inside(self, guest: Guest) -> Inside | None:
        """Return None, because Firecracker has no agent."""
        if os.path.exists(self._path()) and not stat.S_ISSOCK(os.stat(self._path()).st_mode):
            raise GuestUnavailable(f"{self._path()} is not the socket of {guest.name}'s vsock", hint=_NO_PATH)
        return None

    def audit(self) -> list[GuestFacts]:
        """Return no guests: only Firecracker's API socket shows the devices."""
        return []

    def _path(self) -> str:
        if not self._where:
            raise UsageError("the vsock of the Firecracker machine is required", hint=_NO_PATH)
        return self._where

    def _link(self) -> str:
        return f"{self._path()}_{PORT}"


def hypervisor(where: str = "") -> Hypervisor:
    """Return the virtual machine with this vsock; see kinds.py."""
    return Firecracker(where)
