"""Which machines had a seed written for their first boot: remembered on disk, so that none is written twice."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final

from drawwell.errors import UsageError
from drawwell.state.store import Store

MACHINE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")
"""A host's name, and the beginning of a file's."""

Answer = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]


class Seeds:
    """Answers the owner's verbs about seeds.

    Args:
        store: Where it is written.
        clock: Seconds since 1970.
    """

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock

    def answers(self) -> dict[str, Answer]:
        """Return the control verbs of the broker's owner."""
        return {"seed.claim": self._claim, "seed.settle": self._settle}

    async def _claim(self, _asker: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Note that a seed is about to be written for the machine `name`; with `again`, once more.

        Raises:
            UsageError: one was written, or may have been.
        """
        name, again = _machine(arguments), arguments.get("again") is True
        earlier = await asyncio.to_thread(self._store.claim_seed, name, self._clock(), again=again)
        if earlier is None:
            return {"name": name}
        when = datetime.fromtimestamp(earlier.written_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
        which = "was begun and may have been written" if earlier.serial is None else "was written"
        raise UsageError(
            f"a seed for {name} {which} ({when})",
            hint="Two machines with one seed are alike: say --again only when that file was never used.",
        )

    async def _settle(self, _asker: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Note what was written for the machine `name`: the grant's `serial`, or nothing when there is none."""
        name, serial = _machine(arguments), arguments.get("serial")
        if serial is not None and (type(serial) is not int or not 0 <= serial < 2**63):
            raise UsageError("serial is a serial number or null")
        await asyncio.to_thread(self._store.settle_seed, name, serial)
        return {"name": name}


def _machine(arguments: dict[str, Any]) -> str:
    name = arguments.get("name")
    if not isinstance(name, str) or not MACHINE.fullmatch(name):
        raise UsageError(
            "that cannot be a machine's name", hint="Use letters, digits, dots, _ and -, as in a host name."
        )
    return name
