"""What a source's role asks of its driver: for how long, and for whom."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from drawwell.entropy.blocks import RawBlock
from drawwell.errors import (
    DrawwellError,
    IntermittentHealthFailure,
    PermanentHealthFailure,
    SourceRejected,
    SourceUnavailable,
    UsageError,
)
from drawwell.host.clock import suspended_s
from drawwell.ports import NoiseSource
from drawwell.reports import SourceIdentity

HUNG_S: Final = 300.0
"""No driver takes so long for anything."""
SUSPEND_S: Final = 0.5
"""A suspend is no shorter, and two clocks read one after the other differ by less."""
READING: Final = frozenset({"test", "capture", "sample"})
"""The verbs that read the device, which cannot be done while it is paused."""
MAX_HANDOUT_BYTES: Final = 32_768
"""The most that one verb hands out."""


def handout_bytes(args: dict[str, Any]) -> int:
    """Return how many bytes a verb asks for; raises UsageError unless it is a number from 1 to the most."""
    wanted = args.get("bytes")
    if not isinstance(wanted, int) or isinstance(wanted, bool) or not 1 <= wanted <= MAX_HANDOUT_BYTES:
        raise UsageError(f"bytes must be a number from 1 to {MAX_HANDOUT_BYTES}")
    return wanted


@dataclass(slots=True)
class DriverCommand:
    """An operator's verb on its way to the task that owns the driver; its caller may have gone."""

    verb: str
    args: dict[str, Any]
    done: asyncio.Future[dict[str, Any]]

    def answer(self, result: dict[str, Any]) -> None:
        """Tell the caller."""
        if not self.done.done():
            self.done.set_result(result)

    def refuse(self, error: DrawwellError) -> None:
        """Tell the caller why not."""
        if not self.done.done():
            self.done.set_exception(error)


class WatchedDriver:
    """A driver, and whether it keeps its promise to answer in bounded time (`NoiseSource`).

    Args:
        driver: The driver.
        suspended: Seconds that this machine was suspended. A device may be exchanged meanwhile, so
            after a resume nothing is read until it was opened anew.
    """

    def __init__(self, driver: NoiseSource, suspended: Callable[[], float] = suspended_s) -> None:
        self._driver = driver
        self._suspended = suspended
        self._suspended_at_open = suspended()
        self._asked_at: float | None = None

    @property
    def alive(self) -> bool:
        """Has it not been asked, or not for long?"""
        return self._asked_at is None or asyncio.get_running_loop().time() - self._asked_at < HUNG_S

    @property
    def identity(self) -> SourceIdentity:
        """Who it is (NoiseSource)."""
        return self._driver.identity

    async def open(self) -> None:
        """Open it (NoiseSource)."""
        self._suspended_at_open = self._suspended()
        with self._asked():
            await self._driver.open()

    async def read(self, max_bytes: int) -> RawBlock:
        """Read from it (NoiseSource)."""
        with self._asked():
            block = await self._driver.read(max_bytes)
        if self._suspended() - self._suspended_at_open > SUSPEND_S:
            raise SourceUnavailable(
                "this machine was suspended", hint="The device is opened and identified anew."
            )
        return block

    async def command(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        """Have it carry out a verb (NoiseSource)."""
        with self._asked():
            return await self._driver.command(verb, args)

    async def aclose(self) -> None:
        """Let go of it (NoiseSource)."""
        await self._driver.aclose()

    @contextlib.contextmanager
    def _asked(self) -> Iterator[None]:
        self._asked_at = asyncio.get_running_loop().time()
        try:
            yield
        finally:
            self._asked_at = None


def consequence(error: DrawwellError, source: str, *, ends: bool) -> str:
    """Return what happens to the source after `error`, for the log."""
    if ends:
        return "this source ends"
    match error:
        case IntermittentHealthFailure():
            return "the block is dropped and the start-up tests run again"
        case PermanentHealthFailure():
            return f"it is not used again until you type 'drawwell source reset {source}'"
        case SourceRejected():
            return f"it is not used; then 'drawwell source reset {source}' tries it again"
    return "it is tried again and again"
