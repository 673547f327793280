"""Drawing for peers who cannot be told to come back later: wait for them, in line with everybody else."""

import asyncio
from typing import Final

from drawwell.authorisation import Principal
from drawwell.entropy.blocks import DrawClass, DrawRequest, Grant
from drawwell.errors import DrawRefused, DrawwellError, Refused, StateUnavailable
from drawwell.ports import Broker

IN_LINE_S: Final = 3600.0
"""The patience of one place in line; afterwards another is taken."""
_RETRY_S: Final = 1.0
"""How long to wait where the broker cannot say."""
_LONGEST_RETRY_S: Final = 10.0
"""The operator may have raised a quota meanwhile."""


def in_line(n_bytes: int, draw_class: DrawClass) -> DrawRequest:
    """Return the request of a peer who waits however long it takes."""
    return DrawRequest(n_bytes, draw_class, patience_s=IN_LINE_S, retried=True)


async def draw_patiently(broker: Broker, principal: Principal, n_bytes: int, draw_class: DrawClass) -> Grant:
    """Draw, however long it takes.

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
    """Return how long to wait after a refusal: as long as the broker says, within bounds."""
    wait_s = error.retry_after_s if isinstance(error, Refused) else None
    return min(_RETRY_S if wait_s is None else wait_s, _LONGEST_RETRY_S)
