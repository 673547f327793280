"""Records of first-boot seeds, to prevent a second seed for a machine."""

import asyncio
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from drawwell.authorisation import Principal
from drawwell.errors import UsageError
from drawwell.state.port import ConsumerStore
from drawwell.verbs import Handler

MACHINE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")
"""A valid host name, which is also the beginning of a file name."""


class Seeds:
    """Answers the owner's verbs about seeds.

    Args:
        store: Stores the records.
        clock: Returns seconds since 1970.
    """

    def __init__(self, store: ConsumerStore, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock

    def handlers(self) -> dict[str, Handler]:
        """Return the handlers of the verbs about seeds."""
        return {"seed.claim": self._claim, "seed.settle": self._settle}

    async def _claim(self, _owner: Principal, name: str, *, again: bool) -> dict[str, Any]:
        """Record that a seed for `name` is about to be written.

        Raises:
            UsageError: a seed was or might have been written already; `again` permits another.
        """
        _check_machine(name)
        earlier = await asyncio.to_thread(self._store.claim_seed, name, self._clock(), again=again)
        if earlier is None:
            return {"name": name}
        when = datetime.fromtimestamp(earlier.written_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
        which = "might already have been written" if earlier.serial is None else "was already written"
        raise UsageError(
            f"a seed for {name} {which} ({when})",
            hint="Two machines must not use the same seed. Use --again only if the earlier seed was never used.",
        )

    async def _settle(self, _owner: Principal, name: str, serial: int | None) -> dict[str, Any]:
        """Record the serial number of the written grant, None if none was written."""
        _check_machine(name)
        await asyncio.to_thread(self._store.settle_seed, name, serial)
        return {"name": name}


def _check_machine(name: str) -> None:
    if not MACHINE.fullmatch(name):
        raise UsageError(
            "invalid machine name", hint="Use letters, digits, dots, _ and -, as in a host name."
        )
