"""Which machines had a seed written for their first boot: remembered on disk, so that none is written twice."""

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
"""A host's name, and the beginning of a file's."""


class Seeds:
    """Answers the owner's verbs about seeds.

    Args:
        store: Where it is written.
        clock: Seconds since 1970.
    """

    def __init__(self, store: ConsumerStore, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock

    def handlers(self) -> dict[str, Handler]:
        """Return the handlers of the verbs about seeds."""
        return {"seed.claim": self._claim, "seed.settle": self._settle}

    async def _claim(self, _owner: Principal, name: str, *, again: bool) -> dict[str, Any]:
        """Note that a seed is about to be written for the machine `name`; with `again`, once more.

        Raises:
            UsageError: one was written, or may have been.
        """
        _check_machine(name)
        earlier = await asyncio.to_thread(self._store.claim_seed, name, self._clock(), again=again)
        if earlier is None:
            return {"name": name}
        when = datetime.fromtimestamp(earlier.written_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
        which = "was begun and may have been written" if earlier.serial is None else "was written"
        raise UsageError(
            f"a seed for {name} {which} ({when})",
            hint="Two machines with one seed are alike: say --again only when that file was never used.",
        )

    async def _settle(self, _owner: Principal, name: str, serial: int | None) -> dict[str, Any]:
        """Note what was written for the machine `name`: the grant's `serial`, or nothing when there is none."""
        _check_machine(name)
        await asyncio.to_thread(self._store.settle_seed, name, serial)
        return {"name": name}


def _check_machine(name: str) -> None:
    if not MACHINE.fullmatch(name):
        raise UsageError(
            "that cannot be a machine's name", hint="Use letters, digits, dots, _ and -, as in a host name."
        )
