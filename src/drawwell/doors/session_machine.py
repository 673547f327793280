"""The common part of all sessions: bytes in, requests, bytes out."""

import abc
from collections.abc import Callable, Coroutine
from typing import Any

from drawwell.authorisation import DoorKind, Principal
from drawwell.errors import PermissionRefused
from drawwell.ports import Broker

Spawn = Callable[[Coroutine[Any, Any, None]], None]


class SessionMachine(abc.ABC):
    """Answers one peer, without sockets or TLS.

    Args:
        broker: Answers draws and calls.
        identify: Identifies the peer before each request; raises PermissionRefused.
        way: The kind of the door.
        spawn: Runs the rest of a waiting request in a task.
        receive_data: The method of the protocol's own session.
        outgoing: The list of pending output, which the connection empties.
    """

    def __init__(
        self,
        broker: Broker,
        identify: Callable[[], Principal],
        *,
        way: DoorKind,
        spawn: Spawn,
        receive_data: Callable[[bytes | memoryview], None],
        outgoing: list[bytes],
    ) -> None:
        self.receive_data = receive_data
        """Processes bytes from the peer."""
        self.outgoing = outgoing
        """The pending output in pieces."""
        self.admitted = False
        """Whether the peer has been identified."""
        self.consumer = ""
        """The name of the consumer that the peer was admitted as."""
        self.over = False
        """Whether to close after sending the pending output."""
        self.fault = ""
        """The peer's violation of the protocol, if that ended the session."""
        self._broker = broker
        self._identify = identify
        self._way = way
        self._spawn = spawn

    @property
    @abc.abstractmethod
    def stalled(self) -> bool:
        """Whether to pause: too many requests are unanswered."""

    @property
    @abc.abstractmethod
    def part(self) -> int | None:
        """The number of the incomplete request.

        None if no request is incomplete, or if the peer waits for an answer.
        """

    @property
    def outgoing_bytes(self) -> int:
        """The size of the pending output."""
        return sum(map(len, self.outgoing))

    @abc.abstractmethod
    def step(self) -> bool:
        """Handle one request, if complete; return whether to try the next."""

    @abc.abstractmethod
    def end(self, reason: str) -> None:
        """End the session; send the reason if the protocol supports this."""

    def recheck(self) -> None:
        """End the session unless the peer is still the same consumer."""
        try:
            if self._identify().name != self.consumer:
                self.end(f"the peer is no longer consumer {self.consumer}")
        except PermissionRefused as error:
            self.end(str(error))
