"""Facts about a broker's socket file and its listener, without asyncio."""

import os
import socket
import stat
import struct
from typing import Final

from drawwell.errors import PermissionRefused

_UCRED: Final = struct.Struct("3i")
"""struct ucred: pid, uid, gid (unix(7))."""


def listener_of(sock: socket.socket) -> int:
    """Return the user that listened there; root with systemd's sockets."""
    _pid, uid, _gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return int(uid)


def check_place(path: str) -> None:
    """Accept a path that no other user can have made.

    Root, this user and the owners of its directories are trusted. In a directory that all
    users can write to, such as /tmp, only root and this user are.

    Raises:
        PermissionRefused: another user made it.
        OSError: it cannot be looked up.
    """
    place = os.path.abspath(path)
    while (parent := os.path.dirname(place)) != place:
        owner = os.lstat(place).st_uid
        if os.stat(parent).st_mode & stat.S_IWOTH and owner not in {0, os.geteuid()}:
            raise PermissionRefused(
                f"{place} was made by user number {owner}, in a directory where every user may",
                hint="Do not draw there; have the broker's run_dir, and here [unix] path, in a directory of its own.",
            )
        place = parent


def may_not_open(path: str, error: PermissionError) -> PermissionRefused:
    """Build the error for a socket whose mode keeps this user out."""
    return PermissionRefused(
        f"cannot open {path}: {(error.strerror or str(error)).lower()}",
        hint="Join the group that the socket belongs to (ls -l), or run as root.",
    )
