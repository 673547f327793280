"""Blocking calls over an asyncio link, one request at a time."""

import asyncio
from contextlib import suppress
from typing import Unpack

from drawwell.entropy.blocks import DrawClass, DrawOptions, Grant
from drawwell.errors import UsageError
from drawwell.ports import Upstream


class AwaitedLink:
    """Blocking calls to any upstream; each call runs the event loop.

    `BlockingLink` has the same methods for a broker on this machine.

    Raises:
        UsageError: an event loop is already running in this thread.
    """

    def __init__(self, upstream: Upstream) -> None:
        with suppress(RuntimeError):
            asyncio.get_running_loop()
            raise UsageError(
                "an event loop is running in this thread", hint="Use 'await drawwell.aio.draw(…)' instead."
            )
        self._upstream = upstream
        self._runner = asyncio.Runner()

    @property
    def name(self) -> str:
        """The broker's address, for reports."""
        return self._upstream.name

    def draw(self, n_bytes: int, draw_class: DrawClass, **options: Unpack[DrawOptions]) -> Grant:
        """Draw once; same errors as `ports.Upstream.draw`."""
        return self._runner.run(self._upstream.draw(n_bytes, draw_class, **options))

    def pause(self, seconds: float) -> None:
        """Wait while the loop keeps processing events from the broker."""
        self._runner.run(asyncio.sleep(seconds))

    def close(self) -> None:
        """Close the link and the loop."""
        self._runner.run(self._upstream.aclose())
        self._runner.close()
