"""A link over a Unix socket."""

import asyncio
from collections.abc import Collection

from drawwell.errors import PermissionRefused
from drawwell.links.connect_unix import connect_unix
from drawwell.links.link import Link, LinkProtocol
from drawwell.links.socket_file import check_place, listener_of, may_not_open


class UnixLink(Link):
    """An Upstream on this machine.

    Args:
        path: The broker's socket.
        believed: The users whose sockets are believed; None for everybody who could lay one there.
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
            transport, protocol = await loop.create_unix_connection(
                lambda: LinkProtocol(self.name), sock=await connect_unix(self.name)
            )
        except PermissionError as error:
            raise may_not_open(self.name, error) from None
        owner = listener_of(transport.get_extra_info("socket"))
        if self._believed is not None and owner not in self._believed:
            protocol.close()
            raise PermissionRefused(
                f"user number {owner} listens at {self.name}, who is not believed",
                hint="Only root's sockets and those of drawwell's own users are; look who made it: ls -l.",
            )
        return protocol
