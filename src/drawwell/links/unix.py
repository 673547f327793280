"""A link over a Unix socket."""

import asyncio

from drawwell.errors import PermissionRefused
from drawwell.links.link import Link, LinkProtocol


class UnixLink(Link):
    """An Upstream on this machine; `path` is the broker's socket."""

    def __init__(self, path: str, *, open_deadline_s: float = 10.0, answer_deadline_s: float = 10.0) -> None:
        super().__init__(path, open_deadline_s=open_deadline_s, answer_deadline_s=answer_deadline_s)

    async def _connect(self) -> LinkProtocol:
        loop = asyncio.get_running_loop()
        try:
            _, protocol = await loop.create_unix_connection(lambda: LinkProtocol(self.name), self.name)
        except PermissionError as error:
            raise PermissionRefused(
                f"cannot open {self.name}: {(error.strerror or str(error)).lower()}",
                hint="Join the group that the socket belongs to (ls -l), or run as root.",
            ) from None
        return protocol
