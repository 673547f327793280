"""Draws for peers that cannot retry by themselves."""

import asyncio
from typing import Final

from drawwell.authorisation import Principal
from drawwell.entropy.blocks import DrawClass, DrawRequest, Grant
from drawwell.errors import DrawRefused, DrawwellError, Refused, StateUnavailable
from drawwell.ports import Broker

IN_LINE_S: Final = 3600.0
"""How long a draw stays in the queue before it is queued again."""
_RETRY_S: Final = 1.0
"""The delay if the broker does not state a delay."""
_LONGEST_RETRY_S: Final = 10.0
"""The longest delay, because the operator might raise a quota in the meantime."""


def in_line(n_bytes: int, draw_class: DrawClass) -> DrawRequest:
    """Return a request for a peer that can wait without limit."""
    return DrawRequest(n_bytes, draw_class, patience_s=IN_LINE_S, retried=True)


async def draw_patiently(broker: Broker, principal: Principal, n_bytes: int, draw_class: DrawClass) -> Grant:
    """Draw, waiting as long as necessary.

    Raises:
        DrawRefused, PermissionRefused: waiting would not help.
    """
    request = in_line(n_bytes, draw_class)
    while True:
        try:
            return await broker.draw(principal, request)
        except DrawRefused:
            raise
        except (Refused, StateUnavailable) as error:
            wait_s = retry_s(error)
        await asyncio.sleep(wait_s)


def retry_s(error: DrawwellError) -> float:
    """Return the broker's retry delay for a refusal, within bounds."""
    wait_s = error.retry_after_s if isinstance(error, Refused) else None
    return min(_RETRY_S if wait_s is None else wait_s, _LONGEST_RETRY_S)
