"""A link over a Unix socket."""

import asyncio
from collections.abc import Collection
from typing import Final

from drawwell.errors import LinkUnavailable, PermissionRefused
from drawwell.links.connect_unix import connect_unix
from drawwell.links.link import Link, LinkProtocol
from drawwell.links.socket_file import check_place, listener_of, may_not_open

_TURNED_AWAY: Final = (
    "The broker may have rejected this user: a guest's socket admits only root and the user with which "
    "the guest was added. To change the user, run 'drawwell guest apply KIND NAME --user NUMBER' on the "
    "host, with the user's ID on the host."
)


class _UnixProtocol(LinkProtocol):
    def connection_lost(self, exc: Exception | None) -> None:
        """Fail all waiters, with a hint if there was no welcome (asyncio)."""
        if not self.welcome.done():
            self.transport = None
            closed = f"{self._broker} closed the connection before the welcome"
            self.fail(LinkUnavailable(closed, hint=_TURNED_AWAY))
        super().connection_lost(exc)


class UnixLink(Link):
    """An Upstream on this machine.

    Args:
        path: The broker's socket.
        believed: The users whose sockets are trusted; None means all users.
        open_deadline_s: See Link.
        answer_deadline_s: See Link.
    """

    def __init__(
        self,
        path: str,
        *,
        believed: Collection[int] | None = None,
        open_deadline_s: float = 10.0,
        answer_deadline_s: float = 10.0,
    ) -> None:
        super().__init__(path, open_deadline_s=open_deadline_s, answer_deadline_s=answer_deadline_s)
        self._believed = believed

    async def _connect(self) -> LinkProtocol:
        loop = asyncio.get_running_loop()
        try:
            check_place(self.name)
            sock = await connect_unix(self.name)
            owner = listener_of(sock)  # before the broker can close it to refuse us
            _, protocol = await loop.create_unix_connection(lambda: _UnixProtocol(self.name), sock=sock)
        except PermissionError as error:
            raise may_not_open(self.name, error) from None
        if self._believed is not None and owner not in self._believed:
            protocol.close()
            raise PermissionRefused(
                f"user ID {owner}, which is not trusted, listens at {self.name}",
                hint="Only root and drawwell's own users are trusted. Check the socket's owner with 'ls -l'.",
            )
        return protocol
