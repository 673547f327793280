"""The consumer role: draws for a sink, delivers, and waits between draws."""

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
"""How long a draw waits in the queue; the link detects a disconnected broker."""
REFUSED_RETRY_S = 5.0
"""Retry delay if the broker gives none."""
LONGEST_WAIT_S = 60.0
"""Longest delay, even if the broker requests more: its operator may have raised a quota."""


class ConsumerRole:
    """Feeds one sink from one upstream, or from several brokers by `Failover`.

    Args:
        upstream: The source of the bytes.
        sink: Receives the bytes.
        draw_class: The class of the draws.
        jitter: Returns a number in [0, 1) that spreads the retries of many consumers.
        refused_retry_s: Retry delay if the broker gives none.
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
        """Return the sink's report."""
        return self._sink.report

    async def run(self) -> None:
        """Feed the sink until cancelled, or until the sink fails permanently.

        Raises:
            SinkRefused: the sink accepts no more bytes.
            DrawRefused: the sink's draws can never succeed.
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
            await self._upstream.aclose()  # the next attempt may have a new certificate or permission
            await self._wait(error, self._backoff.next_s())
        else:
            self._backoff.reset()
            self.last_error = ""

    async def _wait(self, error: DrawwellError, seconds: float) -> None:
        if str(error) != self.last_error:
            log.warning("%s: %s", self._upstream.name, error)
        self.last_error = str(error)
        await asyncio.sleep(min(seconds, LONGEST_WAIT_S))
