"""Writes the audit logs: counts every minute, other events immediately."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Protocol

from drawwell import __version__
from drawwell.authorisation import Principal, Role
from drawwell.broker.audit_log import AuditLog, AuditTally
from drawwell.config.broker_side import AuditSection
from drawwell.crypto.audit_chain import ChainHead, SignedHead
from drawwell.crypto.receipts import SignsTexts
from drawwell.errors import StateUnavailable
from drawwell.verbs import CONTROL_VERBS

TURNED_AWAY = ("unauthenticated", "protocol_errors", "crowded_out", "overdue")


class CountedDoor(Protocol):
    """A door that counts rejected peers."""

    @property
    def counts(self) -> Any:
        """Counters, as a dataclass with the fields of `TURNED_AWAY`."""


class Auditor:
    """Keeps the audit log of one broker.

    broker_name: The name of the broker.
    section: Contains both files' paths; path "" selects the Python logger "drawwell.audit".
    clock: Returns seconds since 1970.
    signer: Signs the heads of both logs.
    """

    def __init__(
        self, broker_name: str, section: AuditSection, clock: Callable[[], float], signer: SignsTexts
    ) -> None:
        self.tally = AuditTally()
        self._broker_name = broker_name
        self._clock = clock
        self._signer = signer
        self._log = AuditLog(section.path or "", clock)
        self._operators = AuditLog(section.operators_path, clock)
        self._signed = (ChainHead(), ChainHead())
        self._unsigned = ""
        """The last error while signing the heads."""
        self._since = clock()
        self._doors: dict[str, CountedDoor] = {}
        self._turned_away: dict[str, dict[str, int]] = {}

    def watch(self, name: str, door: CountedDoor) -> None:
        """Start counting the peers that this door rejects."""
        self._doors[name] = door
        self._turned_away.pop(name, None)

    def unwatch(self, name: str) -> None:
        """Stop counting the peers of a closed door."""
        self._doors.pop(name, None)

    def note(self, event: str, **facts: Any) -> None:
        """Write a broker event immediately."""
        self._operators.write([{"event": event, **facts}])

    def started(self, first_serial: int) -> None:
        """Log the broker's start and its first serial number."""
        self.note("started", broker=self._broker_name, version=__version__, first_serial=first_serial)
        self.minute()

    def asked(self, principal: Principal, verb: str, arguments: Mapping[str, Any], refused: str) -> None:
        """Log an owner's call; count other callers' calls by error (`refused`)."""
        if principal.role is Role.OWNER:
            self._operators.operator(verb, arguments, refused)
        else:
            known = verb if verb in CONTROL_VERBS else "unknown"
            self.tally.asked(principal.name or str(principal.role), known, refused)

    def joined(self, consumer: str, host: str, refused: str) -> None:
        """Log which machine used an invitation, or count a failed attempt."""
        if refused:
            self.tally.asked(consumer, "join", refused)
        else:
            self._operators.operator("join", {"name": consumer, "address": host})

    def minute(self) -> None:
        """Write the counts since the last call, and sign the heads of both logs."""
        if heads := self._write():
            self._note_line(heads, self._sign(heads))

    async def settle(self) -> None:
        """Run `minute` without blocking the event loop, then flush both files."""
        if heads := self._write():
            self._note_line(heads, await asyncio.to_thread(self._sign, heads))
        await asyncio.to_thread(self._sync)

    def close(self) -> None:
        """Write the last lines and close the files."""
        self.note("stopped")
        self.minute()
        self._log.close()
        self._operators.close()

    def _write(self) -> SignedHead | None:
        """Write the counts; return the heads, or None if they are already signed."""
        lines = self.tally.take() + self._door_lines()
        self._log.write(lines, since=self._since)
        self._since = self._clock()
        if self._signed == (self._log.head, self._operators.head):
            return None
        return SignedHead(self._broker_name, int(self._since), self._log.head, self._operators.head)

    def _sign(self, heads: SignedHead) -> dict[str, Any] | None:
        """Return the signed line, or None if the signer is unreachable."""
        try:
            line = heads.line(self._signer)
        except StateUnavailable as error:
            self._unsigned = str(error)
            return None
        self._unsigned = ""
        return line

    def _note_line(self, heads: SignedHead, line: dict[str, Any] | None) -> None:
        if line:
            self._log.write([line])
            self._signed = (self._log.head, heads.operators)
            self.tally.note_head(self._log.head)

    def _sync(self) -> None:
        self._operators.sync()
        self._log.sync()

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

    def recent(self) -> tuple[Mapping[str, Any], ...]:
        """Return the last broker events and actions of operators, newest first."""
        return tuple(reversed(self._operators.recent))

    async def check_chains(self) -> None:
        """Check both hash chains once; `trouble` then reports a broken chain."""
        for each in (self._log, self._operators):
            await each.check_chain()

    def trouble(self) -> str:
        """Return why a log is unusable or broken, or "" if both are good."""
        if broken := self._log.broken or self._operators.broken:
            return f"the chain of the audit log is broken: {broken}"
        fault = self._log.fault or self._operators.fault
        return f"cannot write the audit log: {fault}" if fault else ""

    def notes(self) -> tuple[str, str]:
        """Return notes for the status: `trouble`, and why the log is not signed."""
        unsigned = f"the audit log is not signed: {self._unsigned}" if self._unsigned else ""
        return self.trouble(), unsigned
