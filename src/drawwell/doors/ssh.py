"""The SSH door: a Unix socket for sessions relayed from sshd.

sshd runs ``drawwell serve-stdio``, which connects here. The first line contains the consumer's
name and the fingerprint of the consumer's key; an ordinary session follows. Only root, the
broker's own user and the account configured in [ssh] may connect.
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
"""Any user can connect; the kernel then identifies the user."""


async def _known_already(_consumer: str) -> None:
    pass


class SshDoor(LocalDoor):
    """A door that serves `broker` to consumers named by a trusted account.

    Args:
        path: The socket file.
        broker: Serves the draws.
        identify: Returns the consumer, given the peer's uid and the name and fingerprint from
            the first line. Called for each request; raises PermissionRefused.
        find: Looks up a consumer before it is identified; raises StateUnavailable.
        speaks: Returns whether a user may name consumers; called when a user connects.
        broker_name: The broker's name.
        limits: Deadlines and connection limits.
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
        super().__init__(path, MODE, "the kernel identifies only local peers", limits)
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
    """A connection of the trusted account, which names the consumer."""

    def __init__(self, door: SshDoor) -> None:
        super().__init__(door)
        self._ssh = door
        self._uid = -1
        self._line = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the connection and identify its user (asyncio)."""
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
        """Look up the consumer, then open the session; reading is paused."""
        door, uid = self._ssh, self._uid
        name, _, key = line.partition(" ")
        try:
            await door.find(name)
        except StateUnavailable as error:
            _log.error("cannot identify consumer %s now: %s", name, error)
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
