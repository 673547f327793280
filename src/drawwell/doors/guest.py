"""A guest's own socket in our protocol: whoever opens it is that guest, root of a container or of this machine."""

import asyncio

from drawwell.authorisation import Way
from drawwell.doors.connection import SessionConnection
from drawwell.doors.door import Limits
from drawwell.doors.local import LocalDoor
from drawwell.doors.session import Conversation
from drawwell.ports import Broker, Peer


class GuestDoor(LocalDoor):
    """Serve `broker` to one guest.

    Args:
        path: The socket file.
        broker: Who is asked.
        consumer: Who everybody at this door is; nobody here is the broker's owner.
        mode: Permissions of the socket file.
        broker_name: How the broker calls itself.
        limits: Deadlines and bounds.
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
    ) -> None:
        super().__init__(path, mode, "a guest is on this machine", limits)
        self.broker = broker
        self.broker_name = broker_name
        self.consumer = consumer

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
        self._conversation = Conversation(
            door.broker, door.broker_name, lambda: Peer(door.consumer), way=Way.GUEST, spawn=self._spawn
        )

    def _received(self, data: memoryview) -> None:
        self._converse(data)

    def _transmit(self, data: bytes) -> None:
        self._write(data)
