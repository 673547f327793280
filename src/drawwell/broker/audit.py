"""What goes into the audit log: every minute what the broker and its doors counted, and at once what operators do."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Protocol

from drawwell import __version__
from drawwell.broker.audit_log import AuditLog
from drawwell.broker.broker import LocalBroker

TURNED_AWAY = ("unauthenticated", "protocol_errors", "crowded_out", "overdue")


class CountedDoor(Protocol):
    """A door that counts the peers that it turned away."""

    @property
    def counts(self) -> Any:
        """Counters, as a dataclass with the fields of `TURNED_AWAY`."""


class Auditor:
    """Keeps the audit log of one broker.

    Args:
        broker: Whose grants and refusals.
        path: The file; "" for the log "drawwell.audit".
        clock: Seconds since 1970.
    """

    def __init__(self, broker: LocalBroker, path: str, clock: Callable[[], float]) -> None:
        self._broker = broker
        self._clock = clock
        self._log = AuditLog(path, clock)
        self._since = clock()
        self._doors: dict[str, CountedDoor] = {}
        self._turned_away: dict[str, dict[str, int]] = {}
        broker.tally.full = self.minute
        broker.remarks += (self._remark,)

    def watch(self, name: str, door: CountedDoor) -> None:
        """Count whom this door turns away."""
        self._doors[name] = door

    def note(self, event: str, **facts: Any) -> None:
        """Write at once what happened."""
        self.minute()  # what came before it stands before it
        self._log.write([{"event": event, **facts}])

    def started(self, first_serial: int) -> None:
        """Say that a life of the broker begins, and its first serial number."""
        self.note("started", broker=self._broker.rules.name, version=__version__, first_serial=first_serial)

    def asked(self, verb: str, arguments: Mapping[str, Any], refused: str) -> None:
        """Write a control verb that somebody asked for; `refused` is the error's name, "" when it was done."""
        self.minute()
        self._log.operator(verb, arguments, refused)

    def joined(self, consumer: str, host: str, refused: str) -> None:
        """Write that a machine joined, or why it did not, and from where."""
        self.asked("join", {"address": host, **({"name": consumer} if consumer else {})}, refused)

    def minute(self) -> None:
        """Write what was counted since the last time."""
        lines = self._broker.tally.take() + self._door_lines()
        self._log.write(lines, since=self._since)
        self._since = self._clock()

    async def settle(self) -> None:
        """Write what was counted, and bring it to disk."""
        self.minute()
        await asyncio.to_thread(self._log.sync)

    def close(self) -> None:
        """Write the last lines and let go of the file."""
        self.note("stopped")
        self._log.close()

    def _door_lines(self) -> list[dict[str, Any]]:
        lines = []
        for name, door in self._doors.items():
            counts = {key: value for key, value in asdict(door.counts).items() if key in TURNED_AWAY}
            before = self._turned_away.get(name, {})
            new = {key: value - before.get(key, 0) for key, value in counts.items()}
            if any(new.values()):
                lines.append({"event": "turned away", "door": name, **new})
            self._turned_away[name] = counts
        return lines

    def _remark(self) -> str:
        return f"the audit log cannot be written: {self._log.fault}" if self._log.fault else ""
