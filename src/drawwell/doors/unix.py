"""The Unix-socket door: the kernel says who the peer is (SO_PEERCRED)."""

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from typing import Final

from drawwell.doors.connection import SessionConnection
from drawwell.doors.conversation import Conversation
from drawwell.doors.door import Door, Limits
from drawwell.doors.sockets import listen_unix, remove_socket_file
from drawwell.ports import Broker, Peer

_UCRED: Final = struct.Struct("3i")
"""struct ucred: pid, uid, gid (unix(7))."""
Identify = Callable[[int, int, int], str]
"""From uid, gid and pid to the consumer's name; raises PermissionRefused."""


class UnixDoor(Door):
    """Serve `broker` on a Unix socket.

    Args:
        path: The socket file; made at `serve`, removed when it ends.
        broker: Who is asked.
        identify: From (uid, gid, pid) to a consumer's name, asked before each request; raises PermissionRefused.
        mode: Permissions of the socket file.
        control: Calls by root or by the broker's own uid are made as ``owner``.
        broker_name: How the broker calls itself.
        limits: Deadlines and bounds.
        listener: A listening socket that somebody else has opened; nothing is made or removed then.
    """

    def __init__(
        self,
        path: str,
        broker: Broker,
        identify: Identify,
        *,
        mode: int = 0o660,
        control: bool = False,
        broker_name: str = "drawwell",
        limits: Limits = Limits(),  # noqa: B008 - frozen
        listener: socket.socket | None = None,
    ) -> None:
        super().__init__(limits)
        self.path = path
        self.broker = broker
        self.broker_name = broker_name
        self.identify = identify
        self.control = control
        self._mode = mode
        self._listener = listener
        self._inode = 0

    async def serve(self) -> None:
        """Listen and serve until cancelled, and remove the socket file that was made; see Door."""
        try:
            await super().serve()
        finally:
            remove_socket_file(self.path, self._inode)

    def _listen(self) -> list[socket.socket]:
        if self._listener is not None:
            return [self._listener]
        listener = listen_unix(self.path, self._mode)
        self._inode = os.stat(self.path).st_ino
        return [listener]

    def _connection(self) -> "UnixConnection":
        return UnixConnection(self)


class UnixConnection(SessionConnection):
    """A connection whose peer the kernel knows."""

    def __init__(self, door: UnixDoor) -> None:
        super().__init__(door)
        self._unix_door = door

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Come in, and ask the kernel who it is (asyncio)."""
        super().connection_made(transport)
        door = self._unix_door
        peer = transport.get_extra_info("socket")
        pid, uid, gid = _UCRED.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        self._conversation = Conversation(
            door.broker,
            door.broker_name,
            lambda: Peer(door.identify(uid, gid, pid)),
            owner=door.control and uid in {0, os.geteuid()},
            spawn=self._spawn,
        )

    def _received(self, data: memoryview) -> None:
        self._converse(data)

    def _transmit(self, data: bytes) -> None:
        self._write(data)
