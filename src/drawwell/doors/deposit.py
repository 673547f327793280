"""The deposit door, where noise sources deliver bytes for consumers.

The kernel identifies the peer (SO_PEERCRED). Only root, the broker's own user and the
configured account may deposit. A source that sends nothing for `SILENCE_S`, for example
because of SIGSTOP, counts as disconnected.
"""

import asyncio
import os
from typing import Any, Final, Protocol

from drawwell.authorisation import DEPOSIT, DoorKind, Principal, Role, may
from drawwell.doors.connection import Connection
from drawwell.doors.door import Limits
from drawwell.doors.local import LocalDoor
from drawwell.doors.shares import shares_of
from drawwell.doors.unix import peer_credentials
from drawwell.errors import DrawwellError, PermissionRefused, RemoteProtocolError, SourceUnavailable
from drawwell.reports import SourceReport
from drawwell.service.faults import log_fault
from drawwell.wire.deposit import Depository, Stage
from drawwell.wire.deposit_frames import Deposit, Restart, SourceStatus
from drawwell.wire.frames import Bye, Frame, Refusal, Result
from drawwell.wire.refusals import to_error

SILENCE_S: Final = 20.0
"""A source sends a report at least every 5 s (links/deposit_protocol.py)."""
LIMITS: Final = Limits(idle_deadline_s=SILENCE_S, max_half_open=32, max_sessions=96)


class AdmittedSource(Protocol):
    """A source that the broker accepted."""

    @property
    def name(self) -> str:
        """The source's name."""

    @property
    def wanted(self) -> bool:
        """Whether the source's process should read from its device now."""

    def take(self, deposit: Deposit) -> None:
        """Accept a deposit that passed its checks."""

    def update(self, report: SourceReport) -> None:
        """Apply a report; raise SourceRejected for another source's device."""

    def leave(self, why: str) -> None:
        """Mark the source as disconnected."""


class SourceHost(Protocol):
    """The part of the broker that accepts sources."""

    def arrive(self, caller: "DepositConnection", report: SourceReport) -> AdmittedSource:
        """Accept a source; raise a DrawwellError to refuse it."""


class DepositDoor(LocalDoor):
    """A door that accepts sources and their deposits for `host`.

    Args:
        path: The socket file, which exists while `serve` runs.
        host: Accepts the sources.
        source_uid: The user ID of the sources' account, or None without such an account.
        limits: Deadlines and connection limits.
    """

    def __init__(
        self,
        path: str,
        host: SourceHost,
        source_uid: int | None,
        *,
        limits: Limits = LIMITS,
    ) -> None:
        # without an account for sources, other users cannot even connect
        mode = 0o600 if source_uid is None else 0o666
        super().__init__(os.path.abspath(path), mode, "the kernel identifies only local peers", limits)
        self.host = host
        self.source_uid = source_uid

    def admit_user(self, uid: int) -> None:
        """Check that a user may deposit.

        Raises:
            PermissionRefused: the user may not deposit.
        """
        standing = Role.OWNER if uid in {0, os.geteuid()} else Role.STRANGER
        if uid == self.source_uid:
            standing = Role.SOURCE
        may(DoorKind.DEPOSIT, Principal(standing, f"user ID {uid}"), DEPOSIT)

    def may_draw(self, uid: int, gid: int, pid: int) -> bool:  # noqa: ARG002 - LocalDoor's
        """Return whether the user may deposit."""
        try:
            self.admit_user(uid)
        except PermissionRefused:
            return False
        return True

    def _connection(self) -> "DepositConnection":
        return DepositConnection(self)


class DepositConnection(Connection):
    """A source's connection (`broker.remote_sources.SourceConnection`)."""

    def __init__(self, door: DepositDoor) -> None:
        super().__init__(door)
        self._deposits = door
        self._session = Depository()
        self._resident: AdmittedSource | None = None
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._why = "the source's process is gone"

    # ---- to the source ---------------------------------------------------------------------

    @property
    def restarting(self) -> bool:
        """Whether a restart was requested but is not confirmed yet."""
        return self._session.restarting

    def want(self, *, wanted: bool) -> None:
        """Inform the source whether bytes are wanted."""
        if self._session.stage is Stage.OPEN:
            self._write(self._session.want(wanted=wanted))

    def restart(self) -> None:
        """Request that the source discard all bytes read so far."""
        if self._session.stage is Stage.OPEN:
            self._write(self._session.restart())

    async def command(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        """Run a verb at the source.

        Raises:
            SourceUnavailable: the source disconnected before it answered.
            DrawwellError: the source refused.
        """
        if self._session.stage is not Stage.OPEN:
            raise SourceUnavailable(self._why)
        request_id, data = self._session.call(verb, args)
        answer: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self._answers[request_id] = answer
        self._write(data)
        return await answer

    # ---- from the source -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the connection and identify its user (asyncio)."""
        super().connection_made(transport)
        _pid, uid, _gid = peer_credentials(transport)
        try:
            self._deposits.admit_user(uid)
        except PermissionRefused as error:
            self._door.counts.unauthenticated += 1
            self._refuse(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """Deregister the connection (asyncio)."""
        super().connection_lost(exc)
        self._depart(self._why)

    def overdue(self, now: float) -> bool:
        """Return whether a deadline has passed (ServedConnection)."""
        if super().overdue(now):
            return True
        silence_s = self._door.limits.idle_deadline_s
        if not self._admitted or silence_s is None or now - self._received_at <= silence_s:
            return False
        self._why = f"the source's process has sent nothing for {silence_s:g} s"
        return True

    def farewell(self) -> None:
        """Send a goodbye, then close (ServedConnection)."""
        if self._session.stage is Stage.OPEN and not self._blocked:
            self._write(self._session.bye("the broker is closing"))
        super().farewell()

    def _received(self, data: memoryview) -> None:
        self._session.receive_data(data)
        try:
            while (event := self._session.next_event()) is not None:
                self._handle(event)
        except RemoteProtocolError as error:
            self._door.counts.protocol_errors += 1
            self._why = f"the source's process violated the protocol: {error}"
            self._write(self._session.bye(str(error)))
            self._depart(self._why)
            self._leave()
        except Exception as error:  # noqa: BLE001 - one connection must not stop the others
            log_fault("a deposit", error)
            self._why = "an internal error: see the broker's log"
            self.abort()

    def _handle(self, event: Frame) -> None:
        if isinstance(event, Deposit) and self._resident:
            self._resident.take(event)
        elif isinstance(event, SourceStatus):
            self._update(event.report)
        elif isinstance(event, Result | Refusal):
            self._answer(event)
        elif isinstance(event, Restart) and self._resident:
            # the report that the source sent before this frame applies from now on
            self._update(self._report)
        elif isinstance(event, Bye):
            reason = f": {event.reason}" if event.reason else ""
            self._why = f"the source's process ended{reason}"
            self._depart(self._why)
            self._leave()

    def _update(self, report: SourceReport) -> None:
        self._report = report
        if self._resident and report.identity.name != self._resident.name:
            raise RemoteProtocolError("the source changed its name")
        try:
            if self._resident:
                self._resident.update(report)
            else:
                self._take_in(report)
        except DrawwellError as error:
            self._why = str(error)
            self._depart(self._why)
            self._refuse(error)

    def _take_in(self, report: SourceReport) -> None:
        resident = self._deposits.host.arrive(self, report)
        self._write(self._session.accept(wanted=resident.wanted))
        self._resident = resident
        self._admit(resident.name)
        self._share = shares_of(self._loop).of(f"source {resident.name}")

    def _refuse(self, error: DrawwellError) -> None:
        self._write(self._session.refuse(error))
        self._leave()

    def _answer(self, event: Result | Refusal) -> None:
        answer = self._answers.pop(event.request_id)
        if answer.done():  # its caller was cancelled
            return
        if isinstance(event, Result):
            answer.set_result(event.document)
        else:
            answer.set_exception(to_error(event))

    def _depart(self, why: str) -> None:
        """Mark the source as disconnected."""
        if self._resident:
            resident, self._resident = self._resident, None
            resident.leave(why)
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(SourceUnavailable(why))
        self._answers.clear()
