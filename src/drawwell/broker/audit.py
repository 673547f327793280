"""What goes into the audit logs: each minute the counts of broker and doors, and at once what operators do."""

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
    """A door that counts the peers that it turned away."""

    @property
    def counts(self) -> Any:
        """Counters, as a dataclass with the fields of `TURNED_AWAY`."""


class Auditor:
    """Keeps the audit log of one broker.

    Args:
        broker_name: Whose grants and refusals.
        section: Names the two files; "" for the log "drawwell.audit".
        clock: Seconds since 1970.
        signer: Signs the heads of both.
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
        """Why the heads could not be signed, the last time."""
        self._since = clock()
        self._doors: dict[str, CountedDoor] = {}
        self._turned_away: dict[str, dict[str, int]] = {}

    def watch(self, name: str, door: CountedDoor) -> None:
        """Count whom this door turns away."""
        self._doors[name] = door

    def note(self, event: str, **facts: Any) -> None:
        """Write at once what happened to the broker."""
        self._operators.write([{"event": event, **facts}])

    def started(self, first_serial: int) -> None:
        """Say that a life of the broker begins, and its first serial number."""
        self.note("started", broker=self._broker_name, version=__version__, first_serial=first_serial)
        self.minute()

    def asked(self, principal: Principal, verb: str, arguments: Mapping[str, Any], refused: str) -> None:
        """Write an owner's control verb, and count anybody else's; `refused` is the error's name, or ""."""
        if principal.role is Role.OWNER:
            self._operators.operator(verb, arguments, refused)
        else:
            known = verb if verb in CONTROL_VERBS else "unknown"
            self.tally.asked(principal.name or str(principal.role), known, refused)

    def joined(self, consumer: str, host: str, refused: str) -> None:
        """Write that a machine used up an invitation, and from where; count those that did not."""
        if refused:
            self.tally.asked(consumer, "join", refused)
        else:
            self._operators.operator("join", {"name": consumer, "address": host})

    def minute(self) -> None:
        """Write what was counted since the last time, and sign where both logs stand."""
        if heads := self._write():
            self._note_line(heads, self._sign(heads))

    async def settle(self) -> None:
        """Do the same for an event loop, which waits for neither signer nor disk."""
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
        """Write what was counted; return the heads where they have to be signed."""
        lines = self.tally.take() + self._door_lines()
        self._log.write(lines, since=self._since)
        self._since = self._clock()
        if self._signed == (self._log.head, self._operators.head):
            return None
        return SignedHead(self._broker_name, int(self._since), self._log.head, self._operators.head)

    def _sign(self, heads: SignedHead) -> dict[str, Any] | None:
        """Return the line of the heads; None while the signer is away, and they are signed later."""
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
        """Return what operators did last, and what happened to the broker, the newest first."""
        return tuple(reversed(self._operators.recent))

    def trouble(self) -> str:
        """Return why a log cannot be written, "" when both can."""
        if fault := self._log.fault or self._operators.fault:
            return f"the audit log cannot be written: {fault}"
        return f"the audit log is not signed: {self._unsigned}" if self._unsigned else ""
