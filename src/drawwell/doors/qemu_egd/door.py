"""The EGD socket of one virtual machine: listener and shared state."""

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from typing import Final

from drawwell.authorisation import Principal, Role
from drawwell.doors.door import Door, Limits, ServedConnection
from drawwell.doors.qemu_egd.connection import GuestEgdConnection
from drawwell.doors.retry import draw_patiently
from drawwell.doors.sockets import listen_unix
from drawwell.entropy.blocks import DrawClass
from drawwell.ports import Broker

_LIMITS: Final = Limits(max_half_open=16, max_sessions=32, max_sessions_each=16)


class GuestEgdDoor(Door):
    """A door that serves `broker` to one virtual machine.

    Args:
        path: The socket file, which is kept when the door closes.
        broker: Serves the draws.
        consumer: The consumer of every peer at this door.
        draw_class: The class of the served bytes.
        mode: Permissions of the socket file.
        limits: Deadlines and connection limits.
        inherited: Sockets from an earlier process: a listener at `path`, and connections.
        keep: Receives each socket that should outlive this process.
        expects: See Door.
        plenty: Returns how many bytes may now be sent ahead of requests.
    """

    def __init__(
        self,
        path: str,
        broker: Broker,
        consumer: str,
        draw_class: DrawClass,
        *,
        mode: int = 0o660,
        limits: Limits = _LIMITS,
        inherited: Sequence[socket.socket] = (),
        keep: Callable[[socket.socket], object] = lambda _sock: None,
        plenty: Callable[[], int] = lambda: 0,
        expects: Callable[[int, int], bool] | None = None,
    ) -> None:
        super().__init__(limits, expects=expects)
        self.path = path
        self.broker = broker
        self.principal = Principal(Role.CONSUMER, consumer)
        self.draw_class = draw_class
        self.asked = 0
        """The number of received requests."""
        self.keep = keep
        self.plenty = plenty
        self.held = bytearray()
        """Bytes drawn before this guest requests them; see `hold`."""
        self._read_before = 0
        self._pausing: set[asyncio.Future[None]] = set()
        self._mode = mode
        self._inherited = list(inherited)

    def change_class(self, draw_class: DrawClass) -> None:
        """Change the class of the served bytes."""
        self.draw_class = draw_class

    @property
    def owed_bytes(self) -> int:
        """The number of requested bytes that QEMU has not received yet."""
        return sum(visitor.owed_bytes for visitor in self._visitors())

    @property
    def in_flight_bytes(self) -> int:
        """The number of charged bytes that QEMU has not read: sent or held."""
        return len(self.held) + sum(visitor.in_flight_bytes for visitor in self._visitors())

    @property
    def read_bytes(self) -> int:
        """The number of bytes that QEMU has read since this door was created."""
        return self._read_before + sum(visitor.read_bytes for visitor in self._visitors())

    def leave(self, visitor: ServedConnection) -> None:
        """Deregister a connection; keep its count of bytes read."""
        if isinstance(visitor, GuestEgdConnection) and visitor in self._sessions:
            self._read_before += visitor.read_bytes
        super().leave(visitor)

    @property
    def waits(self) -> str:
        """The reason why requests wait, or "" if no request waits."""
        return next((visitor.waits for visitor in self._visitors() if visitor.waits), "")

    async def hold(self, n_bytes: int) -> None:
        """Draw `n_bytes` in advance, to answer later requests immediately.

        Waits as long as needed. The bytes are charged to the guest; `drop_held` discards them.

        Raises:
            DrawRefused, PermissionRefused: waiting would not help.
        """
        while len(self.held) < n_bytes:
            missing = n_bytes - len(self.held)
            self.held += (await draw_patiently(self.broker, self.principal, missing, self.draw_class)).data

    async def pause(self, wait_s: float) -> None:
        """Wait for `wait_s` seconds, or until `look_again` is called."""
        loop = asyncio.get_running_loop()
        pausing = loop.create_future()
        self._pausing.add(pausing)
        over = loop.call_later(wait_s, _wake, pausing)
        try:
            await pausing
        finally:
            over.cancel()
            self._pausing.discard(pausing)

    def look_again(self) -> None:
        """Retry refused draws, because the guest's terms have changed."""
        for pausing in self._pausing:
            _wake(pausing)

    def drop_held(self) -> None:
        """Discard the held bytes."""
        self.held[:] = bytes(len(self.held))
        self.held.clear()

    def take_held(self, n_bytes: int) -> bytes:
        """Remove and return `n_bytes` held bytes, or none if there are fewer."""
        if len(self.held) < n_bytes:
            return b""
        data = bytes(self.held[:n_bytes])
        self.held[:n_bytes] = bytes(n_bytes)
        del self.held[:n_bytes]
        return data

    def _visitors(self) -> "list[GuestEgdConnection]":
        return [visitor for visitor in self._sessions if isinstance(visitor, GuestEgdConnection)]

    def _listen(self) -> list[socket.socket]:
        listeners = [sock for sock in self._inherited if _listens(sock)]
        self._inherited = [sock for sock in self._inherited if sock not in listeners]
        if listeners and os.path.exists(self.path):
            return [listeners.pop()]
        for stale in listeners:  # the file was removed, so no peer can connect
            stale.shutdown(socket.SHUT_RDWR)
            stale.close()
        listener = listen_unix(self.path, self._mode)
        self.keep(listener)
        return [listener]

    def _connection(self) -> asyncio.BaseProtocol:
        raise NotImplementedError  # _take_up creates the connections

    async def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._inherited:
            GuestEgdConnection(self, self._inherited.pop()).begin()
        await super()._sweep(loop)

    async def _take_up(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:  # noqa: ARG002 - Door's
        self.keep(sock)
        GuestEgdConnection(self, sock).begin()


def _wake(pausing: asyncio.Future[None]) -> None:
    if not pausing.done():
        pausing.set_result(None)


def _listens(sock: socket.socket) -> bool:
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
