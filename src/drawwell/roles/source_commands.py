"""Commands queued for a driver, and a watchdog for its calls."""

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
"""Every call of a driver must return within this time."""
SUSPEND_S: Final = 0.5
"""Shortest suspend that counts; successive readings of two clocks differ by less."""
READING: Final = frozenset({"test", "capture", "sample"})
"""Verbs that read the device; they are refused while the device is paused."""
MAX_HANDOUT_BYTES: Final = 32_768
"""Maximum number of bytes returned by a verb."""


def handout_bytes(args: dict[str, Any]) -> int:
    """Return a verb's number of bytes; raise UsageError if it is invalid."""
    wanted = args.get("bytes")
    if not isinstance(wanted, int) or isinstance(wanted, bool) or not 1 <= wanted <= MAX_HANDOUT_BYTES:
        raise UsageError(f"bytes must be a number from 1 to {MAX_HANDOUT_BYTES}")
    return wanted


@dataclass(slots=True)
class DriverCommand:
    """A verb queued for the task that owns the driver; can be cancelled."""

    verb: str
    args: dict[str, Any]
    done: asyncio.Future[dict[str, Any]]

    def answer(self, result: dict[str, Any]) -> None:
        """Return a result to the caller."""
        if not self.done.done():
            self.done.set_result(result)

    def refuse(self, error: DrawwellError) -> None:
        """Return an error to the caller."""
        if not self.done.done():
            self.done.set_exception(error)


class WatchedDriver:
    """A driver that is watched for calls that take too long (`NoiseSource`).

    Args:
        driver: The driver.
        suspended: Returns how many seconds this machine was suspended. The device may have
            been replaced in that time, so it is reopened before the next read.
    """

    def __init__(self, driver: NoiseSource, suspended: Callable[[], float] = suspended_s) -> None:
        self._driver = driver
        self._suspended = suspended
        self._suspended_at_open = suspended()
        self._asked_at: float | None = None

    @property
    def alive(self) -> bool:
        """Whether no call is overdue."""
        return self._asked_at is None or asyncio.get_running_loop().time() - self._asked_at < HUNG_S

    @property
    def identity(self) -> SourceIdentity:
        """The driver's identity; see `NoiseSource`."""
        return self._driver.identity

    async def open(self) -> None:
        """Open the driver; see `NoiseSource`."""
        self._suspended_at_open = self._suspended()
        with self._asked():
            await self._driver.open()

    async def read(self, max_bytes: int) -> RawBlock:
        """Read from the driver; see `NoiseSource`."""
        with self._asked():
            block = await self._driver.read(max_bytes)
        if self._suspended() - self._suspended_at_open > SUSPEND_S:
            raise SourceUnavailable(
                "this machine was suspended", hint="The device is reopened and identified again."
            )
        return block

    async def command(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        """Run a verb; see `NoiseSource`."""
        with self._asked():
            return await self._driver.command(verb, args)

    async def aclose(self) -> None:
        """Close the driver; see `NoiseSource`."""
        await self._driver.aclose()

    @contextlib.contextmanager
    def _asked(self) -> Iterator[None]:
        self._asked_at = asyncio.get_running_loop().time()
        try:
            yield
        finally:
            self._asked_at = None


def consequence(error: DrawwellError, source: str, *, ends: bool) -> str:
    """Return a description, for the log, of what `error` means for the source."""
    if ends:
        return "this source exits"
    match error:
        case IntermittentHealthFailure():
            return "the block is dropped, and the start-up tests are repeated"
        case PermanentHealthFailure():
            return f"the source is not used until you run 'drawwell source reset {source}'"
        case SourceRejected():
            return f"the source is not used; 'drawwell source reset {source}' tries it again"
    return f"retrying. {error.hint or ''}".rstrip()
