"""An event loop with virtual time, which jumps to the next timer.

Timers, locks and in-memory links work as usual, and a virtual year passes in a moment. Real
sockets are not supported.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar

_T = TypeVar("_T")


class Stuck(Exception):
    """All tasks wait and no timer is set; in real time this would hang."""


class _JumpingSelector(selectors.SelectSelector):
    """A selector that never waits: it advances the loop's clock instead."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise Stuck
        if not ready and timeout:
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop; it runs thread calls at once, so runs are exactly repeatable."""

    def __init__(self) -> None:
        self._virtual = _JumpingSelector()
        super().__init__(self._virtual)
        self._clock_resolution = 1e-6  # large floats cannot represent asyncio's finer resolution

    def time(self) -> float:
        """Return the seconds since the loop was created."""
        return self._virtual.now

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., _T], *args: Any
    ) -> asyncio.Future[_T]:
        """Call `func` immediately; the result is visible in the next iteration."""
        del executor
        done: asyncio.Future[_T] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - passed to the future
            done.set_exception(error)
        return done


def run_virtually(main: Coroutine[Any, Any, _T]) -> _T:
    """Run `main` to its end without waiting.

    Raises:
        Stuck: `main` would never end.
    """
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
