"""Doors for this machine only: on a socket file, or on a loopback address."""

import os
import socket

from drawwell.doors.door import Door, Limits
from drawwell.doors.sockets import listen_tcp, listen_unix, loopback_address, remove_socket_file


class LocalDoor(Door):
    """A door at `where`: a socket file (it has a slash), or a loopback ``host:port``.

    Args:
        where: The file is made at `serve` and removed when that ends.
        mode: Permissions of the socket file.
        because: Why others must not reach it; said when `where` is not loopback.
        limits: Deadlines and bounds.

    Raises:
        ConfigError: `where` is not loopback.
    """

    def __init__(self, where: str, mode: int, because: str, limits: Limits) -> None:
        super().__init__(limits)
        self.path = where if "/" in where else ""
        self._tcp = None if self.path else loopback_address(where, because)
        self._mode = mode
        self._inode = 0

    async def serve(self) -> None:
        """Listen and serve until cancelled, and remove the socket file that was made; see Door."""
        try:
            await super().serve()
        finally:
            if self.path:
                remove_socket_file(self.path, self._inode)

    def _listen(self) -> list[socket.socket]:
        if self._tcp is not None:
            return listen_tcp(*self._tcp)
        listener = listen_unix(self.path, self._mode)
        self._inode = os.stat(self.path).st_ino
        return [listener]
