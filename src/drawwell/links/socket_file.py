"""Checks of a broker's socket file and its listener, without asyncio."""

import os
import socket
import stat
import struct
from typing import Final

from drawwell.errors import PermissionRefused

_UCRED: Final = struct.Struct("3i")
"""struct ucred: pid, uid, gid (unix(7))."""


def listener_of(sock: socket.socket) -> int:
    """Return the user ID of the listening process; root for systemd's sockets."""
    _pid, uid, _gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return int(uid)


def check_place(path: str) -> None:
    """Check that an untrusted user cannot have created `path`.

    Root, this user and the owners of the directories are trusted. In a directory that all
    users can write to, such as /tmp, only root and this user are trusted.

    Raises:
        PermissionRefused: another user created it.
        OSError: the path cannot be looked up.
    """
    place = os.path.abspath(path)
    while (parent := os.path.dirname(place)) != place:
        owner = os.lstat(place).st_uid
        if os.stat(parent).st_mode & stat.S_IWOTH and owner not in {0, os.geteuid()}:
            raise PermissionRefused(
                f"{place} belongs to user ID {owner}, in a directory that every user can write to",
                hint="Do not draw from it. Set the broker's run_dir and path in [unix] to a private directory.",
            )
        place = parent


def may_not_open(path: str, error: PermissionError) -> PermissionRefused:
    """Create the error for a socket that this user may not open."""
    return PermissionRefused(
        f"cannot open {path}: {(error.strerror or str(error)).lower()}",
        hint="Add your user to the socket's group (see 'ls -l'), or run as root.",
    )
