"""The door of the noise sources: what they deposit is what everybody is served from.

So the kernel is asked who comes (SO_PEERCRED), and nobody may but root, the broker's own user and the one account that
the configuration names. A source that says nothing for `SILENCE_S` is gone, as one that was stopped with SIGSTOP.
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
from drawwell.wire.deposit_frames import Anew, Deposit, SourceStatus
from drawwell.wire.frames import Bye, Frame, Refusal, Result
from drawwell.wire.refusals import to_error

SILENCE_S: Final = 20.0
"""A source speaks at least every 5 s (links/deposit_protocol.py)."""
LIMITS: Final = Limits(idle_deadline_s=SILENCE_S, max_half_open=32, max_sessions=96)


class AdmittedSource(Protocol):
    """A source that was taken in."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def wanted(self) -> bool:
        """Should its process read now?"""

    def take(self, deposit: Deposit) -> None:
        """Take over a deposit, which was judged."""

    def update(self, report: SourceReport) -> None:
        """Take its word for what it is now; raises SourceRejected if its device is another source's."""

    def leave(self, why: str) -> None:
        """Have it gone."""


class SourceHost(Protocol):
    """Whoever takes sources in."""

    def arrive(self, caller: "DepositConnection", report: SourceReport) -> AdmittedSource:
        """Take one in; raises a DrawwellError when it cannot."""


class DepositDoor(LocalDoor):
    """Let sources deposit with `host`.

    Args:
        path: The socket file; made at `serve`, removed when it ends.
        host: Takes them in.
        source_uid: The account that sources run under, None for none.
        limits: Deadlines and bounds.
    """

    def __init__(
        self,
        path: str,
        host: SourceHost,
        source_uid: int | None,
        *,
        limits: Limits = LIMITS,
    ) -> None:
        # anybody else may not even knock where no account was named
        mode = 0o600 if source_uid is None else 0o666
        super().__init__(os.path.abspath(path), mode, "the kernel names only local peers", limits)
        self.host = host
        self.source_uid = source_uid

    def admit_user(self, uid: int) -> None:
        """Return when that user may deposit.

        Raises:
            PermissionRefused: he may not.
        """
        standing = Role.OWNER if uid in {0, os.geteuid()} else Role.STRANGER
        if uid == self.source_uid:
            standing = Role.SOURCE
        may(DoorKind.DEPOSIT, Principal(standing, f"user number {uid}"), DEPOSIT)

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
    """One source at the door, and the way to it (`broker.remote_sources.SourceConnection`)."""

    def __init__(self, door: DepositDoor) -> None:
        super().__init__(door)
        self._deposits = door
        self._session = Depository()
        self._resident: AdmittedSource | None = None
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._why = "its process is gone"

    # ---- the way to the source -----------------------------------------------------------------------------

    @property
    def anew(self) -> bool:
        """Was it told to begin anew, and has not answered?"""
        return self._session.anew

    def want(self, *, wanted: bool) -> None:
        """Say that bytes are wanted, or not."""
        if self._session.stage is Stage.OPEN:
            self._write(self._session.want(wanted=wanted))

    def restart(self) -> None:
        """Have it use nothing that it has read so far."""
        if self._session.stage is Stage.OPEN:
            self._write(self._session.restart())

    async def command(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        """Have a verb carried out.

        Raises:
            SourceUnavailable: its process went before it answered.
            DrawwellError: what it refused with.
        """
        if self._session.stage is not Stage.OPEN:
            raise SourceUnavailable(self._why)
        request_id, data = self._session.call(verb, args)
        answer: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self._answers[request_id] = answer
        self._write(data)
        return await answer

    # ---- what the source says ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Come in, and ask the kernel who it is (asyncio)."""
        super().connection_made(transport)
        _pid, uid, _gid = peer_credentials(transport)
        try:
            self._deposits.admit_user(uid)
        except PermissionRefused as error:
            self._door.counts.unauthenticated += 1
            self._refuse(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """Go (asyncio)."""
        super().connection_lost(exc)
        self._depart(self._why)

    def overdue(self, now: float) -> bool:
        """Whether a deadline is past (ServedConnection)."""
        if super().overdue(now):
            return True
        silence_s = self._door.limits.idle_deadline_s
        if not self._admitted or silence_s is None or now - self._heard_at <= silence_s:
            return False
        self._why = f"its process has said nothing for {silence_s:g} s"
        return True

    def farewell(self) -> None:
        """Say goodbye first (ServedConnection)."""
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
            self._why = f"its process broke the protocol: {error}"
            self._write(self._session.bye(str(error)))
            self._depart(self._why)
            self._leave()
        except Exception as error:  # noqa: BLE001 - whatever it is: it costs this one, and no other
            log_fault("a deposit", error)
            self._why = "a fault in drawwell: see the broker's log"
            self.abort()

    def _handle(self, event: Frame) -> None:
        if isinstance(event, Deposit) and self._resident:
            self._resident.take(event)
        elif isinstance(event, SourceStatus):
            self._hear(event.report)
        elif isinstance(event, Result | Refusal):
            self._answer(event)
        elif isinstance(event, Anew) and self._resident:
            # its state came before this word, and counts from now on
            self._hear(self._report)
        elif isinstance(event, Bye):
            self._why = f"its process ended: {event.reason}" if event.reason else "its process ended"
            self._depart(self._why)
            self._leave()

    def _hear(self, report: SourceReport) -> None:
        self._report = report
        if self._resident and report.identity.name != self._resident.name:
            raise RemoteProtocolError("a source changed its name")
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
        if answer.done():  # nobody waits for it any more
            return
        if isinstance(event, Result):
            answer.set_result(event.document)
        else:
            answer.set_exception(to_error(event))

    def _depart(self, why: str) -> None:
        """Tell everybody that the source is gone."""
        if self._resident:
            resident, self._resident = self._resident, None
            resident.leave(why)
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(SourceUnavailable(why))
        self._answers.clear()
