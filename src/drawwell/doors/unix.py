"""The Unix-socket door: the kernel says who the peer is (SO_PEERCRED)."""

import asyncio
import os
from collections.abc import Callable

from drawwell.authorisation import DoorKind, Principal, Role
from drawwell.doors.connection import SessionConnection
from drawwell.doors.door import Limits
from drawwell.doors.local import LocalDoor
from drawwell.doors.session import BrokerSession
from drawwell.doors.sockets import credentials
from drawwell.errors import PermissionRefused
from drawwell.ports import Broker

Identify = Callable[[int, int, int], str]
"""From uid, gid and pid to the consumer's name; raises PermissionRefused."""


class UnixDoor(LocalDoor):
    """Serve `broker` on a Unix socket.

    Args:
        path: The socket file; made at `serve`, removed when it ends.
        broker: Who is asked.
        identify: From (uid, gid, pid) to a consumer's name, asked before each request; raises PermissionRefused.
        mode: Permissions of the socket file.
        way: Which door it is. By CONTROL, calls by root or by the broker's own uid are made as ``owner``; by CONTROL
            and LINK, whoever may open the socket and is nobody else observes.
        broker_name: How the broker calls itself.
        limits: Deadlines and bounds.
    """

    def __init__(
        self,
        path: str,
        broker: Broker,
        identify: Identify,
        *,
        mode: int = 0o660,
        way: DoorKind = DoorKind.UNIX,
        broker_name: str = "drawwell",
        limits: Limits = Limits(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__(os.path.abspath(path), mode, "the kernel names only local peers", limits)
        self.broker = broker
        self.broker_name = broker_name
        self.identify = identify
        self.way = way

    def principal(self, uid: int, gid: int, pid: int) -> Principal:
        """Identify a local user; raises PermissionRefused."""
        owner = self.way is DoorKind.CONTROL and uid in {0, os.geteuid()}
        try:
            return Principal(Role.OWNER if owner else Role.CONSUMER, self.identify(uid, gid, pid))
        except PermissionRefused:
            if self.way not in {DoorKind.CONTROL, DoorKind.LINK}:
                raise
            return Principal(Role.OWNER if owner else Role.OBSERVER, f"user-{uid}")

    def may_draw(self, uid: int, gid: int, pid: int) -> bool:
        """Return whether the user is a consumer."""
        try:
            self.identify(uid, gid, pid)
        except PermissionRefused:
            return False
        return True

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
        pid, uid, gid = peer_credentials(transport)
        self._conversation = BrokerSession(
            door.broker,
            door.broker_name,
            lambda: door.principal(uid, gid, pid),
            way=door.way,
            spawn=self._spawn,
        )


def peer_credentials(transport: asyncio.BaseTransport) -> tuple[int, int, int]:
    """Ask the kernel for pid, uid and gid of whoever is at the other end, as they were when he connected."""
    return credentials(transport.get_extra_info("socket"))


class GuestDoor(LocalDoor):
    """Serve `broker` to one guest.

    Args:
        path: The socket file.
        broker: Who is asked.
        consumer: The consumer that every peer is; none of them is the broker's owner.
        mode: Permissions of the socket file.
        broker_name: How the broker calls itself.
        limits: Deadlines and bounds.
        expects: See Door.
    """

    def __init__(
        self,
        path: str,
        broker: Broker,
        consumer: str,
        *,
        mode: int = 0o660,
        broker_name: str = "drawwell",
        limits: Limits = Limits(),  # noqa: B008 - frozen
        expects: Callable[[int, int], bool] | None = None,
    ) -> None:
        super().__init__(path, mode, "a guest is on this machine", limits, expects)
        self.broker = broker
        self.broker_name = broker_name
        self.principal = Principal(Role.CONSUMER, consumer)

    def _connection(self) -> "GuestConnection":
        return GuestConnection(self)


class GuestConnection(SessionConnection):
    """A connection whose peer is the door's guest."""

    def __init__(self, door: GuestDoor) -> None:
        super().__init__(door)
        self._guest_door = door

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Come in; there is nothing to ask (asyncio)."""
        super().connection_made(transport)
        door = self._guest_door
        self._conversation = BrokerSession(
            door.broker, door.broker_name, lambda: door.principal, way=DoorKind.GUEST, spawn=self._spawn
        )
