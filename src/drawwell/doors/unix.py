"""Doors on Unix sockets, where the kernel identifies peers (SO_PEERCRED)."""

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
"""Returns the consumer's name for a uid, gid and pid; raises PermissionRefused."""


class UnixDoor(LocalDoor):
    """A door that serves `broker` on a Unix socket.

    Args:
        path: The socket file, which exists while `serve` runs.
        broker: Serves the draws.
        identify: Returns the consumer of (uid, gid, pid), called for each request; raises
            PermissionRefused.
        mode: Permissions of the socket file.
        way: The kind of the door. At CONTROL, root and the broker's own user are the owner.
            At CONTROL and LINK, every peer that is not a consumer is an observer.
        broker_name: The broker's name.
        limits: Deadlines and connection limits.
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
        super().__init__(os.path.abspath(path), mode, "the kernel identifies only local peers", limits)
        self.broker = broker
        self.broker_name = broker_name
        self.identify = identify
        self.way = way

    def principal(self, uid: int, gid: int, pid: int) -> Principal:
        """Return a local user's principal; raises PermissionRefused."""
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
    """A connection of a peer identified by the kernel."""

    def __init__(self, door: UnixDoor) -> None:
        super().__init__(door)
        self._unix_door = door

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the connection and identify its user (asyncio)."""
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
    """Return the peer's pid, uid and gid at the time of its connection."""
    return credentials(transport.get_extra_info("socket"))


class GuestDoor(LocalDoor):
    """A door that serves `broker` to one guest.

    Args:
        path: The socket file.
        broker: Serves the draws.
        consumer: The consumer of every peer, even of root.
        mode: Permissions of the socket file.
        broker_name: The broker's name.
        limits: Deadlines and connection limits.
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
    """A connection of the door's guest."""

    def __init__(self, door: GuestDoor) -> None:
        super().__init__(door)
        self._guest_door = door

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the guest's connection (asyncio)."""
        super().connection_made(transport)
        door = self._guest_door
        self._conversation = BrokerSession(
            door.broker, door.broker_name, lambda: door.principal, way=DoorKind.GUEST, spawn=self._spawn
        )
