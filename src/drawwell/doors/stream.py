"""A stream of bytes for a peer that can only read: small pieces, each drawn when the one before it has left."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from drawwell.authorisation import Principal
from drawwell.doors.retry import draw_patiently
from drawwell.entropy.blocks import DrawClass
from drawwell.ports import Broker

PIECE_BYTES: Final = 64
SEND_BUFFER_BYTES: Final = 4096
"""So little lies in our kernel for a peer that does not read; what lies in the peer's own is up to the peer."""


async def pour(
    broker: Broker,
    entitled: Callable[[], tuple[Principal, DrawClass]],
    send: Callable[[bytes], None],
    sent: Callable[[], Awaitable[object]],
) -> None:
    """Draw and send until cancelled, as fast as line, quota and peer allow.

    Args:
        broker: Who is asked.
        entitled: Says, before each draw, which consumer the peer is and what it gets; raises PermissionRefused.
        send: Takes a piece.
        sent: Returns when it has left.

    Raises:
        DrawRefused, PermissionRefused: nothing more will ever be served.
    """
    while True:
        principal, draw_class = entitled()
        send((await draw_patiently(broker, principal, PIECE_BYTES, draw_class)).data)
        await asyncio.sleep(0)  # the others' turn, also when neither draw nor peer made us wait
        await sent()
