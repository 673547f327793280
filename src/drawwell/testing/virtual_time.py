"""An event loop whose time is a number: where others wait, it jumps to the next timer.

Timers, locks and links in memory work as ever, and a year of them takes a moment. Real sockets do not belong here.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar

_T = TypeVar("_T")


class Stuck(Exception):
    """Everybody waits and no timer runs: in real time this would hang for ever."""


class _JumpingSelector(selectors.SelectSelector):
    """Waits for nothing: the time that would pass is added to the loop's clock."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise Stuck
        if not ready and timeout:
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop. What is sent to a thread is done at once, so that a run is the same every time."""

    def __init__(self) -> None:
        self._virtual = _JumpingSelector()
        super().__init__(self._virtual)
        self._clock_resolution = 1e-6  # of asyncio: at large times a float is no finer

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self._virtual.now

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., _T], *args: Any
    ) -> asyncio.Future[_T]:
        """Call `func` here and now; the caller sees the answer in the next turn, as with a thread."""
        del executor
        done: asyncio.Future[_T] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - handed on
            done.set_exception(error)
        return done


def run_virtually(main: Coroutine[Any, Any, _T]) -> _T:
    """Run `main` to its end, without waiting.

    Raises:
        Stuck: it would never end.
    """
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
