"""Firecracker's virtual machines, by their vsock.

The vsock is a Unix socket on the host (docs/vsock.md of Firecracker): a guest that connects
to port N of the host (CID 2) is connected to the Unix socket ``PATH_N``, where PATH is the
device's ``uds_path``. That is a link to the guest's own socket here: the host needs no
AF_VSOCK. Firecracker's entropy device has no setting for a source: it takes the host's kernel.
"""

import os
import stat
from typing import Final

from drawwell.errors import GuestUnavailable, UsageError
from drawwell.guests.edit.files import refused
from drawwell.guests.edit.quoting import DIRECT, INSIDE
from drawwell.guests.model import Change, Guest, GuestFacts, GuestKind, Hypervisor, Inside, Piece, Plan

PORT: Final = 55_000
"""The port of the TLS door has this number, too."""
_HOST: Final = 2
"""VMADDR_CID_HOST (vsock(7))."""
_NO_PATH: Final = "Name the uds_path of its vsock: --connect PATH, the same as in PUT /vsock."
_BRIDGE: Final = (
    f"mkdir -p {INSIDE}\nsocat UNIX-LISTEN:{INSIDE}/draw.sock,fork,mode=666 VSOCK-CONNECT:{_HOST}:{PORT} &\n"
)
_NOTES: Final = (
    "Any process in the guest draws as that guest: its Firecracker makes the connection.",
    "In a jail (jailer) the link leads nowhere: mount the guest's socket there (mount --bind).",
    "The guest's kernel is not fed by this: run drawwell in it, with [kernel] feed = true.",
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
        """See `Hypervisor`: a path is enough, as its vsock may come later."""
        del guest
        self._path()

    def owner(self, guest: Guest) -> tuple[int | None, int | None]:
        """Return the user that Firecracker runs as: the socket's owner."""
        del guest
        try:
            found = os.stat(self._path())
        except OSError:
            return None, None
        return (found.st_uid, found.st_gid) if found.st_uid else (None, None)

    def apply(self, guest: Guest) -> list[Change]:
        """See `Hypervisor`: lay the link, unless something else is in its place."""
        link, target = self._link(), guest.socket
        if not os.path.isdir(os.path.dirname(link)):
            raise GuestUnavailable(f"{os.path.dirname(link)} is no directory", hint=_NO_PATH)
        if os.path.islink(link) and os.readlink(link) == target:
            return []
        try:
            os.symlink(target, link)
        except FileExistsError:
            raise GuestUnavailable(
                f"{link} is there already, and not ours", hint="Look who made it: ls -l; then remove it."
            ) from None
        except OSError as error:
            raise refused(link, error) from error
        return [Change(f"linked port {PORT} of the vsock to {target}", link)]

    def remove(self, guest: Guest) -> list[Change]:
        """See `Hypervisor`: what is not our link stays."""
        link = self._link()
        if not (os.path.islink(link) and os.readlink(link) == guest.socket):
            return []
        try:
            os.unlink(link)
        except OSError as error:
            raise refused(link, error) from error
        return [Change("deleted", link)]

    def inside(self, guest: Guest) -> Inside | None:
        """Return None: Firecracker has no agent."""
        if os.path.exists(self._path()) and not stat.S_ISSOCK(os.stat(self._path()).st_mode):
            raise GuestUnavailable(f"{self._path()} is no socket of {guest.name}'s vsock", hint=_NO_PATH)
        return None

    def audit(self) -> list[GuestFacts]:
        """Return nothing: only its API socket shows what a machine has."""
        return []

    def _path(self) -> str:
        if not self._where:
            raise UsageError("a Firecracker machine is known by its vsock", hint=_NO_PATH)
        return self._where

    def _link(self) -> str:
        return f"{self._path()}_{PORT}"


def hypervisor(where: str = "") -> Hypervisor:
    """Return the machine of that vsock; see kinds.py."""
    return Firecracker(where)
