"""Other brokers' changes: announced by notices and read from a table."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import psycopg

from drawwell.errors import StateUnavailable
from drawwell.fleet.checks import Standing
from drawwell.fleet.connection import Address, StoreConnection
from drawwell.fleet.store import changes_after
from drawwell.state.port import Changes

log = logging.getLogger("drawwell.fleet")

EVERY_S: Final = 5.0
"""If a notice is lost, a change is delayed by at most this long."""
RETRY_S: Final = 1.0
_BEYOND: Final = 2**62
"""A number larger than that of any change."""


class ChangeFeed:
    """Reads the fleet's changes, and reserves this broker's name in the store.

    Args:
        address: The store.
        broker: The name of this broker, which no other broker may use.
        follow: Called with the changes in order. If it raises StateUnavailable, they are read
            again.
        grace_s: How long the broker may serve without reading the changes.
    """

    def __init__(
        self,
        address: Address,
        broker: str,
        follow: Callable[[Changes], Awaitable[None]],
        grace_s: float,
    ) -> None:
        self._broker = broker
        self._follow = follow
        self._grace_s = grace_s
        self._connection = StoreConnection(address, f"feed {broker}", writes=False, prepare=self._enter)
        self.last = 0
        """The number of the last applied change."""
        self._notified = False
        self._read_at = _since_boot()
        self._trouble = ""

    def start(self) -> None:
        """Reserve the name, and continue from the last change.

        Raises:
            StateUnavailable: the store cannot be used, or another broker uses the name.
        """
        self.last = changes_after(self._connection, _BEYOND).last
        self._read_at = _since_boot()

    async def run(self) -> None:
        """Apply changes until cancelled."""
        while True:
            try:
                await self._read()
                await self._wait()
            except StateUnavailable as error:
                if not self._trouble:
                    log.error("%s", error)
                self._trouble = str(error)
                await asyncio.sleep(RETRY_S)

    def require(self) -> None:
        """Raise StateUnavailable if changes have not been read for too long."""
        if why := self.cut_off():
            raise StateUnavailable(
                why, hint="Draw from another broker. 'drawwell fleet status' on this one shows why."
            )

    def cut_off(self) -> str:
        """Describe why the fleet's consumers are not served; "" if they are."""
        age_s = _since_boot() - self._read_at
        if age_s <= self._grace_s:
            return ""
        return f"this broker has had no answer from the fleet's store for {age_s:.0f} s"

    def note(self) -> str:
        """Describe why changes cannot be read; "" if they can."""
        if not self._trouble:
            return ""
        left_s = self._grace_s - (_since_boot() - self._read_at)
        rest = f"serving for another {left_s:.0f} s" if left_s > 0 else "not serving the fleet's consumers"
        return f"{self._trouble}; {rest}"

    @property
    def standing(self) -> Standing | None:
        """The store's last report about itself."""
        return self._connection.standing

    def close(self) -> None:
        """Release the name."""
        self._connection.close()

    # ---- inside ----------------------------------------------------------------------

    def _enter(self, db: psycopg.Connection[Any]) -> None:
        """Subscribe to notices and reserve the name, on each new connection."""
        db.add_notify_handler(self._notice)
        db.execute("LISTEN drawwell")
        row = db.execute("SELECT drawwell.enter(%s)", (self._broker,)).fetchone()
        answer = row[0] if row else ""
        if answer not in {"", "taken"}:
            raise StateUnavailable(
                f"this broker has the name {self._broker}, but its role in the store belongs to {answer!r}",
                hint="Set [broker] name to the name with which this broker joined.",
            )
        if answer:
            raise StateUnavailable(
                f"another broker of this fleet has the name {self._broker!r}",
                hint="Set another [broker] name. If this machine lost its power or network, the name is free "
                "again within half a minute.",
            )

    def _notice(self, _notify: psycopg.Notify) -> None:
        self._notified = True

    async def _read(self) -> None:
        """Read and apply the changes after the last one."""
        asked_at, self._notified = _since_boot(), False
        changes = await asyncio.to_thread(changes_after, self._connection, self.last)
        if changes.consumers or not changes.complete:
            await self._follow(changes)
        self.last, self._read_at = changes.last, asked_at
        if self._trouble:
            log.info("the fleet's store is available again")
        self._trouble = ""

    async def _wait(self) -> None:
        """Wait for a notice, but at most for `EVERY_S` seconds."""
        if self._notified:  # the notice arrived with the last answer
            return
        readable, loop, number = asyncio.Event(), asyncio.get_running_loop(), self._connection.fileno()
        loop.add_reader(number, readable.set)
        try:
            async with asyncio.timeout(EVERY_S):
                await readable.wait()
        except TimeoutError:
            pass
        finally:
            loop.remove_reader(number)


def _since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
