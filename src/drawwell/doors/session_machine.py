"""What the sessions of all protocols share: bytes in, requests, bytes out."""

import abc
from collections.abc import Callable, Coroutine
from typing import Any

from drawwell.authorisation import DoorKind, Principal
from drawwell.errors import PermissionRefused
from drawwell.ports import Broker

Spawn = Callable[[Coroutine[Any, Any, None]], None]


class SessionMachine(abc.ABC):
    """Answers one peer. Knows neither sockets nor TLS.

    Args:
        broker: Answers draws and calls.
        identify: Identifies the peer, before each request; raises PermissionRefused.
        way: Which door it is.
        spawn: Runs the rest of a request that waits.
        receive_data: Of the protocol's own session.
    """

    def __init__(
        self,
        broker: Broker,
        identify: Callable[[], Principal],
        *,
        way: DoorKind,
        spawn: Spawn,
        receive_data: Callable[[bytes | memoryview], None],
    ) -> None:
        self.receive_data = receive_data
        """Take what came from the peer."""
        self.admitted = False
        """The peer has shown who it is."""
        self.consumer = ""
        """Whom it was admitted as."""
        self.over = False
        """Nothing more is sent after what is outgoing: close then."""
        self.fault = ""
        """What the peer did wrong, when that is why it is over."""
        self._broker = broker
        self._identify = identify
        self._way = way
        self._spawn = spawn

    @property
    @abc.abstractmethod
    def stalled(self) -> bool:
        """Whether no more is looked at or read, for what is under way."""

    @property
    @abc.abstractmethod
    def part(self) -> int | None:
        """The number of the request that is here in part.

        None when there is none, or when it waits for us.
        """

    @property
    @abc.abstractmethod
    def outgoing_bytes(self) -> int:
        """How much must be sent."""

    @abc.abstractmethod
    def take_outgoing(self) -> bytes:
        """Take what must be sent."""

    @abc.abstractmethod
    def step(self) -> bool:
        """Handle one request, if any; return whether another may be here."""

    @abc.abstractmethod
    def end(self, reason: str) -> None:
        """End the session, and send the reason where the protocol can."""

    def recheck(self) -> None:
        """End it unless the peer is still who it was admitted as."""
        try:
            if self._identify().name != self.consumer:
                self.end(f"this is no longer consumer {self.consumer}")
        except PermissionRefused as error:
            self.end(str(error))
