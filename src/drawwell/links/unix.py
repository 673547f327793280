"""A link over a Unix socket."""

import asyncio
import os
import stat

from drawwell.errors import PermissionRefused
from drawwell.links.link import Link, LinkProtocol


class UnixLink(Link):
    """An Upstream on this machine; `path` is the broker's socket."""

    def __init__(self, path: str, *, open_deadline_s: float = 10.0, answer_deadline_s: float = 10.0) -> None:
        super().__init__(path, open_deadline_s=open_deadline_s, answer_deadline_s=answer_deadline_s)

    async def _connect(self) -> LinkProtocol:
        loop = asyncio.get_running_loop()
        try:
            check_place(self.name)
            _, protocol = await loop.create_unix_connection(lambda: LinkProtocol(self.name), self.name)
        except PermissionError as error:
            raise PermissionRefused(
                f"cannot open {self.name}: {(error.strerror or str(error)).lower()}",
                hint="Join the group that the socket belongs to (ls -l), or run as root.",
            ) from None
        return protocol


def check_place(path: str) -> None:
    """Return when nobody but root, us, and whom the directories belong to can have put `path` there.

    In a directory like /tmp, where everybody may make a name, only root and we are believed.
    """
    place = os.path.abspath(path)
    while (parent := os.path.dirname(place)) != place:
        owner = os.lstat(place).st_uid
        if os.stat(parent).st_mode & stat.S_IWOTH and owner not in {0, os.geteuid()}:
            raise PermissionRefused(
                f"{place} was made by user number {owner}, in a directory where everybody may",
                hint="Do not draw there; have the broker's run_dir, and here [unix] path, in a directory of its own.",
            )
        place = parent
