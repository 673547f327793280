"""Doors for this machine only: a socket file or a loopback address."""

import os
import socket
from collections.abc import Callable, Sequence

from drawwell.doors.admission import UserBudgets
from drawwell.doors.door import Door, Limits
from drawwell.doors.sockets import credentials, listen_tcp, listen_unix, loopback_address, remove_socket_file


class LocalDoor(Door):
    """A door on a socket file or a loopback address.

    Args:
        where: A socket file (with a slash), which exists while `serve` runs, or a loopback
            ``host:port``.
        mode: Permissions of the socket file.
        because: The reason for the error if `where` is not a loopback address.
        limits: Deadlines and connection limits.
        expects: See Door.

    Raises:
        ConfigError: `where` is not a loopback address.
    """

    def __init__(
        self,
        where: str,
        mode: int,
        because: str,
        limits: Limits,
        expects: Callable[[int, int], bool] | None = None,
    ) -> None:
        super().__init__(limits, expects=expects)
        self.path = where if "/" in where else ""
        self._tcp = None if self.path else loopback_address(where, because)
        self._mode = mode
        self._inode = 0
        self._users = UserBudgets()

    async def serve(self, handed: Sequence[socket.socket] = ()) -> None:
        """Listen and serve until cancelled; then remove the socket file. See Door."""
        try:
            await super().serve(handed)
        finally:
            if self.path:
                remove_socket_file(self.path, self._inode)

    def may_draw(self, uid: int, gid: int, pid: int) -> bool:  # noqa: ARG002 - for doors that know users
        """Return whether a local user may draw. Others share a small budget."""
        return True

    def _lets_in(self, sock: socket.socket, now: float) -> bool:
        if not super()._lets_in(sock, now):
            return False
        if not self.path:
            return True
        pid, uid, gid = credentials(sock)
        if self._users.admit(uid if self.may_draw(uid, gid, pid) else None, now):
            return True
        self.counts.crowded_out += 1
        return False

    def _listen(self) -> list[socket.socket]:
        if self._tcp is not None:
            return listen_tcp(*self._tcp)
        listener = listen_unix(self.path, self._mode)
        self._inode = os.stat(self.path).st_ino
        return [listener]
