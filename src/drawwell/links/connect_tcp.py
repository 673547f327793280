"""Connecting to a host if some of its addresses do not answer.

asyncio has an argument of `create_connection` for this, but uvloop does not.
"""

import asyncio
import socket
from asyncio.staggered import staggered_race
from functools import partial
from itertools import chain, zip_longest
from typing import Any, Final

ATTEMPT_DELAY_S: Final = 0.25
"""The delay after which the next address is tried in parallel (RFC 8305, section 5)."""


async def connect_tcp(host: str, port: int) -> socket.socket:
    """Return a socket connected to the first address that answers.

    Raises:
        OSError: the host has no address, or none of them answers.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    attempts = [partial(_connected, family, address) for family, *_, address in _alternating(found)]
    sock: socket.socket | None
    sock, _, errors = await staggered_race(attempts, ATTEMPT_DELAY_S)
    if sock is None:
        raise next(error for error in errors if error)
    return sock


def _alternating(found: list[Any]) -> list[Any]:
    """Order addresses with alternating families (RFC 8305, section 4)."""
    first = [each for each in found if each[0] == found[0][0]]
    others = [each for each in found if each[0] != found[0][0]]
    return [each for each in chain.from_iterable(zip_longest(first, others)) if each]


async def _connected(family: int, address: Any) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock
