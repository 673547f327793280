"""A link over a Unix socket."""

import asyncio
import os
import socket
import stat
import struct
from collections.abc import Collection
from typing import Final

from drawwell.errors import PermissionRefused
from drawwell.links.connect_unix import connect_unix
from drawwell.links.link import Link, LinkProtocol

_UCRED: Final = struct.Struct("3i")
"""struct ucred: pid, uid, gid (unix(7))."""


class UnixLink(Link):
    """An Upstream on this machine.

    Args:
        path: The broker's socket.
        believed: The users whose sockets are believed; None for everybody who could lay one there.
        open_deadline_s: See Link.
        answer_deadline_s: See Link.
    """

    def __init__(
        self,
        path: str,
        *,
        believed: Collection[int] | None = None,
        open_deadline_s: float = 10.0,
        answer_deadline_s: float = 10.0,
    ) -> None:
        super().__init__(path, open_deadline_s=open_deadline_s, answer_deadline_s=answer_deadline_s)
        self._believed = believed

    async def _connect(self) -> LinkProtocol:
        loop = asyncio.get_running_loop()
        try:
            check_place(self.name)
            transport, protocol = await loop.create_unix_connection(
                lambda: LinkProtocol(self.name), sock=await connect_unix(self.name)
            )
        except PermissionError as error:
            raise PermissionRefused(
                f"cannot open {self.name}: {(error.strerror or str(error)).lower()}",
                hint="Join the group that the socket belongs to (ls -l), or run as root.",
            ) from None
        owner = _listener(transport.get_extra_info("socket"))
        if self._believed is not None and owner not in self._believed:
            protocol.close()
            raise PermissionRefused(
                f"user number {owner} listens at {self.name}, who is not believed",
                hint="Only root's sockets and those of drawwell's own users are; look who made it: ls -l.",
            )
        return protocol


def _listener(sock: socket.socket) -> int:
    """Ask the kernel for the user who listened there: with systemd's sockets that is root."""
    _pid, uid, _gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return int(uid)


def check_place(path: str) -> None:
    """Return when nobody but root, us, and whom the directories belong to can have put `path` there.

    In a directory like /tmp, where everybody may make a name, only root and we are believed.
    """
    place = os.path.abspath(path)
    while (parent := os.path.dirname(place)) != place:
        owner = os.lstat(place).st_uid
        if os.stat(parent).st_mode & stat.S_IWOTH and owner not in {0, os.geteuid()}:
            raise PermissionRefused(
                f"{place} was made by user number {owner}, in a directory where everybody may",
                hint="Do not draw there; have the broker's run_dir, and here [unix] path, in a directory of its own.",
            )
        place = parent
