"""The SSH door: sessions that sshd lets in and ``drawwell serve-stdio`` carries here, on a Unix socket.

The first line names the consumer and the fingerprint of its key. It is believed of the account that sshd runs
serve-stdio under, of root and of the broker's own user, and of no other; an ordinary session follows it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from drawwell.authorisation import DoorKind, Principal, Role
from drawwell.doors.connection import SessionConnection
from drawwell.doors.door import Limits
from drawwell.doors.local import LocalDoor
from drawwell.doors.session import BrokerSession
from drawwell.doors.unix import peer_credentials
from drawwell.errors import StateUnavailable
from drawwell.ports import Broker

_log = logging.getLogger(__name__)
MAX_LINE_BYTES: Final = 128
MODE: Final = 0o666
"""Anybody may knock: who may speak is asked of the kernel."""


async def _known_already(_consumer: str) -> None:
    pass


class SshDoor(LocalDoor):
    """Serve `broker` to consumers that an account speaks for.

    Args:
        path: The socket file.
        broker: Who is asked.
        identify: From the peer's uid and the name and fingerprint in its first line to the consumer, called before
            each request; raises PermissionRefused.
        find: Looks a consumer up before it is identified; raises StateUnavailable.
        speaks: Whether a user may name consumers at all; asked at accept.
        broker_name: How the broker calls itself.
        limits: Deadlines and bounds.
    """

    def __init__(
        self,
        path: str,
        broker: Broker,
        identify: Callable[[int, str, str], str],
        *,
        find: Callable[[str], Awaitable[object]] = _known_already,
        speaks: Callable[[int], bool] = lambda _uid: True,
        broker_name: str = "drawwell",
        limits: Limits = Limits(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__(path, MODE, "the kernel names only local peers", limits)
        self.find = find
        self.speaks = speaks
        self.broker = broker
        self.broker_name = broker_name
        self.identify = identify

    def may_draw(self, uid: int, gid: int, pid: int) -> bool:  # noqa: ARG002 - LocalDoor's
        """Return whether the user may name consumers."""
        return self.speaks(uid)

    def _connection(self) -> "SshConnection":
        return SshConnection(self)


class SshConnection(SessionConnection):
    """A connection whose consumer is named by an account that may."""

    def __init__(self, door: SshDoor) -> None:
        super().__init__(door)
        self._ssh = door
        self._uid = -1
        self._line = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Come in, and ask the kernel who speaks (asyncio)."""
        super().connection_made(transport)
        _pid, self._uid, _gid = peer_credentials(transport)

    def _received(self, data: memoryview) -> None:
        if self._conversation is not None:
            self._converse(data)
            return
        line, end, rest = (self._line + bytes(data)).partition(b"\n")
        if len(line) > MAX_LINE_BYTES:
            self._door.counts.protocol_errors += 1
            self._leave()
        elif not end:
            self._line = line
        else:
            if self._transport is not None:
                self._transport.pause_reading()
            self._spawn(self._greet(line.decode("ascii", "replace"), rest))

    async def _greet(self, line: str, rest: bytes) -> None:
        """Open the session when its consumer was looked up; nothing is read meanwhile."""
        door, uid = self._ssh, self._uid
        name, _, key = line.partition(" ")
        try:
            await door.find(name)
        except StateUnavailable as error:
            _log.error("consumer %s cannot be identified now: %s", name, error)
            self._leave()
            return
        self._conversation = BrokerSession(
            door.broker,
            door.broker_name,
            lambda: Principal(Role.CONSUMER, door.identify(uid, name, key)),
            way=DoorKind.SSH,
            spawn=self._spawn,
        )
        if self._transport is not None:
            self._transport.resume_reading()
        self._converse(rest)
