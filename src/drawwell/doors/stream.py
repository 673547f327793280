"""A stream of drawn bytes for a peer that only reads."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from drawwell.authorisation import Principal
from drawwell.doors.retry import draw_patiently
from drawwell.entropy.blocks import DrawClass
from drawwell.ports import Broker

PIECE_BYTES: Final = 64
SEND_BUFFER_BYTES: Final = 4096
"""The send buffer's size, which limits the unread bytes for a peer that does not read."""


async def stream(
    broker: Broker,
    entitled: Callable[[], tuple[Principal, DrawClass]],
    send: Callable[[bytes], None],
    sent: Callable[[], Awaitable[object]],
) -> None:
    """Draw and send until cancelled, as fast as queue, quota and peer allow.

    Args:
        broker: Serves the draws.
        entitled: Returns consumer and class before each draw; raises PermissionRefused.
        send: Sends a piece.
        sent: Waits until the piece is sent.

    Raises:
        DrawRefused, PermissionRefused: later draws cannot succeed either.
    """
    while True:
        principal, draw_class = entitled()
        send((await draw_patiently(broker, principal, PIECE_BYTES, draw_class)).data)
        await asyncio.sleep(0)  # let other tasks run even if there was no wait
        await sent()
