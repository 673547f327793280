"""The consumer role: draw what a sink wants, pour it in, wait as long as the broker says."""

import asyncio
import logging
from collections.abc import Callable

from drawwell.backoff import Backoff
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import (
    AuthenticationFailed,
    DrawRefused,
    DrawwellError,
    LinkUnavailable,
    PermissionRefused,
    Refused,
    StateUnavailable,
)
from drawwell.ports import Sink, Upstream
from drawwell.reports import SinkReport

log = logging.getLogger("drawwell.consumer")

FIRST_RETRY_S = 1.0
LAST_RETRY_S = 30.0
PATIENCE_S = 5.0
"""How long a draw waits in line with all others; a broker that goes away meanwhile is noticed by its link."""
REFUSED_RETRY_S = 5.0
"""How long to wait when the broker cannot say."""
LONGEST_WAIT_S = 60.0
"""Whatever it says: its operator may have raised a quota, or mended it, before then."""


class ConsumerRole:
    """Feeds one sink from one upstream (which may be several brokers behind a `Failover`).

    Args:
        upstream: Where to draw.
        sink: Where to pour.
        draw_class: What to ask for.
        jitter: Returns a number in [0, 1) that spreads the retries of many consumers.
        refused_retry_s: How long to wait when the broker cannot say.
    """

    def __init__(
        self,
        upstream: Upstream,
        sink: Sink,
        draw_class: DrawClass,
        *,
        jitter: Callable[[], float],
        refused_retry_s: float = REFUSED_RETRY_S,
    ) -> None:
        self._refused_retry_s = refused_retry_s
        self._upstream = upstream
        self._sink = sink
        self._class = draw_class
        self._backoff = Backoff(FIRST_RETRY_S, LAST_RETRY_S, jitter)
        self.last_error = ""

    @property
    def report(self) -> SinkReport:
        """What the sink got."""
        return self._sink.report

    async def run(self) -> None:
        """Feed the sink until cancelled, or until the sink refuses for good.

        Raises:
            SinkRefused: the sink took no more.
            DrawRefused: what the sink wants can never be drawn.
        """
        try:
            while True:
                await self._sink.wait_wanted()
                await self._deliver_once()
        finally:
            await self._upstream.aclose()
            await self._sink.aclose()

    async def _deliver_once(self) -> None:
        try:
            grant = await self._upstream.draw(self._sink.wanted_bytes(), self._class, patience_s=PATIENCE_S)
            await self._sink.deliver(grant)
        except DrawRefused:
            raise
        except Refused as error:
            await self._wait(
                error, error.retry_after_s if error.retry_after_s is not None else self._refused_retry_s
            )
        except (LinkUnavailable, StateUnavailable, AuthenticationFailed, PermissionRefused) as error:
            await self._upstream.aclose()  # a certificate may be renewed, or a right given, by the next try
            await self._wait(error, self._backoff.next_s())
        else:
            self._backoff.reset()
            self.last_error = ""

    async def _wait(self, error: DrawwellError, seconds: float) -> None:
        if str(error) != self.last_error:
            log.warning("%s: %s", self._upstream.name, error)
        self.last_error = str(error)
        await asyncio.sleep(min(seconds, LONGEST_WAIT_S))
