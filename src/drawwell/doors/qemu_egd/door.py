"""The EGD socket of one virtual machine: its listener, and what its connections have in common."""

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
    """Serve `broker` to one virtual machine.

    Args:
        path: The socket file; it stays when the door closes.
        broker: Who is asked.
        consumer: Who everybody at this door is.
        draw_class: What is served.
        mode: Permissions of the socket file.
        limits: Bounds.
        inherited: What an earlier life of this door left: a listening socket at `path`, and connections.
        keep: Is told of each socket that should outlive this process.
        expects: See Door.
        plenty: Says how many bytes may be sent ahead of requests now.
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
        """Requests that came in."""
        self.keep = keep
        self.plenty = plenty
        self.held = bytearray()
        """Bytes that were drawn for this guest ahead of its requests, see `hold`."""
        self._read_before = 0
        self._pausing: set[asyncio.Future[None]] = set()
        self._mode = mode
        self._inherited = list(inherited)

    def change_class(self, draw_class: DrawClass) -> None:
        """Serve this class from now on."""
        self.draw_class = draw_class

    @property
    def owed_bytes(self) -> int:
        """How much was asked for and has not arrived."""
        return sum(visitor.owed_bytes for visitor in self._visitors())

    @property
    def in_flight_bytes(self) -> int:
        """How much is charged and has not been read: in the sockets, and what is held."""
        return len(self.held) + sum(visitor.in_flight_bytes for visitor in self._visitors())

    @property
    def read_bytes(self) -> int:
        """How much QEMU has read since this door was made."""
        return self._read_before + sum(visitor.read_bytes for visitor in self._visitors())

    def leave(self, visitor: ServedConnection) -> None:
        """Forget a connection, and keep count of what it read."""
        if isinstance(visitor, GuestEgdConnection) and visitor in self._sessions:
            self._read_before += visitor.read_bytes
        super().leave(visitor)

    @property
    def waits(self) -> str:
        """Why requests wait, "" when none does."""
        return next((visitor.waits for visitor in self._visitors() if visitor.waits), "")

    async def hold(self, n_bytes: int) -> None:
        """Draw `n_bytes` to have them at hand, so that what is asked from now on is answered at once.

        They are this guest's and are charged; `let_go` forgets what is left. Waits as long as it takes.

        Raises:
            DrawRefused, PermissionRefused: waiting would not help.
        """
        while len(self.held) < n_bytes:
            missing = n_bytes - len(self.held)
            self.held += (await draw_patiently(self.broker, self.principal, missing, self.draw_class)).data

    async def pause(self, wait_s: float) -> None:
        """Return after so long, or as soon as somebody says `look_again`."""
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
        """Have those who were refused try again: the guest's terms have changed."""
        for pausing in self._pausing:
            _wake(pausing)

    def let_go(self) -> None:
        """Forget what is held."""
        self.held[:] = bytes(len(self.held))
        self.held.clear()

    def take_held(self, n_bytes: int) -> bytes:
        """Take so many of the bytes that are held; none when there are fewer."""
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
        for stale in listeners:  # its file was removed: nobody can find it, and nobody need keep it
            stale.shutdown(socket.SHUT_RDWR)
            stale.close()
        listener = listen_unix(self.path, self._mode)
        self.keep(listener)
        return [listener]

    def _connection(self) -> asyncio.BaseProtocol:
        raise NotImplementedError  # connections are ours from the socket on: _take_up

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
