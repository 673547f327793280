"""Connecting to a Unix socket even if its backlog is full.

With a full backlog, connect(2) fails immediately with EAGAIN. No event reports a free place,
and asyncio treats the socket as connected. So we retry with a backoff until the deadline.
"""

import asyncio
import socket
from typing import Final

from drawwell.backoff import Backoff

_FIRST_RETRY_S: Final = 0.01
_LAST_RETRY_S: Final = 0.25


async def connect_unix(path: str) -> socket.socket:
    """Return a connected socket; retry while the backlog is full.

    Raises:
        OSError: connecting failed for another reason.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    sock.setblocking(False)
    backoff = Backoff(_FIRST_RETRY_S, _LAST_RETRY_S)
    try:
        while True:
            try:
                sock.connect(path)
            except BlockingIOError:
                await asyncio.sleep(backoff.next_s())
            else:
                return sock
    except BaseException:
        sock.close()
        raise
