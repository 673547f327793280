"""A connection of a depositing source: frames and back-pressure."""

import asyncio
from collections.abc import Callable
from typing import Final, cast

from drawwell import __version__
from drawwell.errors import (
    DrawwellError,
    LinkUnavailable,
    LocalProtocolError,
    RemoteProtocolError,
    SourceError,
    UsageError,
)
from drawwell.ports import Source
from drawwell.reports import SourceReport
from drawwell.service.faults import log_fault
from drawwell.wire.deposit import Depositor, Stage
from drawwell.wire.deposit_frames import MAX_DEPOSIT_BYTES, Restart, Want
from drawwell.wire.frames import Bye, Call, Frame, Refusal
from drawwell.wire.refusals import to_error

REPORT_S: Final = 1.0
"""Interval of reports while counters change. A change of state is reported immediately."""
HEARTBEAT_S: Final = 5.0
"""Interval of reports without changes, because a silent source counts as disconnected."""


class DepositProtocol(asyncio.Protocol):
    """A connection; `taken` is done when the broker has accepted the source."""

    def __init__(self, source: Source, turned: Callable[[], None]) -> None:
        self.wanted = False
        self.assessed_bits = 0
        self.spoilt_bytes = 0
        self.taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._source = source
        self._turned = turned
        self._session = Depositor()
        self._transport: asyncio.Transport | None = None
        self._blocked = False
        self._buffer = bytearray()
        self._flushing: asyncio.Handle | None = None
        self._said: SourceReport | None = None
        self._said_at = 0.0
        self._commands: asyncio.Queue[Call] = asyncio.Queue()
        self._error: DrawwellError = LinkUnavailable("the broker disconnected")

    @property
    def ready(self) -> bool:
        """Whether output can be sent and the broker reads."""
        return (
            self._session.stage is Stage.OPEN
            and not self._blocked
            and self._transport is not None
            and not self._transport.is_closing()
        )

    # ---- output ----------------------------------------------------------------------------

    def put(self, data: bytearray) -> None:
        """Queue bytes for the next turn of the loop; if refused, count them."""
        if not self.ready or len(self._buffer) + len(data) > MAX_DEPOSIT_BYTES:
            self.spoilt_bytes += len(data)
            return
        self._buffer += data
        if self._flushing is None:
            self._flushing = self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Send the queued bytes."""
        if self._flushing:
            self._flushing.cancel()
            self._flushing = None
        if (self._buffer or self.spoilt_bytes) and self._session.stage is Stage.OPEN:
            self._write(self._session.deposit(self.assessed_bits, self.spoilt_bytes, self._buffer))
            self.assessed_bits = self.spoilt_bytes = 0
        self._wipe()

    def report(self) -> None:
        """Report the source's state after all earlier output."""
        if self._session.stage is Stage.OPEN:
            self.flush()
            self._said, self._said_at = self._source.report(), self._loop.time()
            self._write(self._session.report(self._said))

    def leave(self, reason: str) -> None:
        """Send a goodbye."""
        if self._session.stage is Stage.OPEN:
            self._write(self._session.bye(reason))
        if self._transport:
            self._transport.close()

    def drop(self) -> None:
        """Close the connection; unsent output is lost."""
        self._wipe()
        if self._transport:
            self._transport.abort()

    async def converse(self) -> None:
        """Report counters and run commands until the connection ends.

        Raises:
            DrawwellError: the reason why it ended.
        """
        async with asyncio.TaskGroup() as group:
            tasks = {group.create_task(self._tell_counters())}
            tasks.add(group.create_task(self._obey(group, tasks)))
            await self.ended.wait()
            # do not raise here: Python 3.11 loses a cancellation if the group fails too
            for task in tuple(tasks):
                task.cancel()
        raise self._error

    async def _tell_counters(self) -> None:
        while True:
            await asyncio.sleep(REPORT_S)
            overdue = self._loop.time() - self._said_at >= HEARTBEAT_S
            if self.ready and (overdue or self._source.report() != self._said):
                self.report()

    async def _obey(self, group: asyncio.TaskGroup, tasks: set[asyncio.Task[None]]) -> None:
        while True:
            task = group.create_task(self._carry_out(await self._commands.get()))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def _carry_out(self, call: Call) -> None:
        try:
            document = await self._source.command(call.verb, call.args)
            answer = self._session.result(call.request_id, document)
        except LocalProtocolError:
            answer = self._session.refuse(call.request_id, UsageError("the answer is larger than 1 MiB"))
        except DrawwellError as error:
            answer = self._session.refuse(call.request_id, error)
        except Exception as error:  # noqa: BLE001 - the source must keep running
            log_fault(f"the verb {call.verb!r}", error)
            answer = self._session.refuse(call.request_id, SourceError("an internal error"))
        self._write(answer)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _wipe(self) -> None:
        self._buffer[:] = bytes(len(self._buffer))
        self._buffer = bytearray()

    # ---- input -----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Offer the source (asyncio)."""
        self._transport = cast("asyncio.Transport", transport)
        self._said, self._said_at = self._source.report(), self._loop.time()
        self._write(self._session.offer(f"drawwell {__version__}", self._said))

    def data_received(self, data: bytes) -> None:
        """Process the broker's frames (asyncio)."""
        self._session.receive_data(data)
        try:
            while (event := self._session.next_event()) is not None:
                self._handle(event)
        except RemoteProtocolError as error:
            self._end(LinkUnavailable(f"the broker violated the protocol: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio
        """Fail all waiters (asyncio)."""
        self._transport = None
        self._end(self._error)

    def pause_writing(self) -> None:
        """Stop depositing, because the broker is not reading (asyncio)."""
        self._blocked = True

    def resume_writing(self) -> None:
        """Resume depositing (asyncio)."""
        self._blocked = False
        self._turned()

    def _handle(self, event: Frame) -> None:
        if isinstance(event, Want):
            self.wanted = event.wanted
            if not self.taken.done():
                self.taken.set_result(None)
            self._turned()
        elif isinstance(event, Restart):
            self._restart()
        elif isinstance(event, Call):
            self._commands.put_nowait(event)
        elif isinstance(event, Refusal):
            self._end(to_error(event))
        elif isinstance(event, Bye):
            self._end(LinkUnavailable(f"the broker closed the link: {event.reason or 'no reason given'}"))

    def _restart(self) -> None:
        """Drop earlier output; send the new state, then the confirmation."""
        self.spoilt_bytes += len(self._buffer)
        self._wipe()
        self._source.restart()
        self.report()
        self._write(self._session.restarted())

    def _end(self, error: DrawwellError) -> None:
        if self.ended.is_set():
            return
        self._error = error
        if not self.taken.done():
            self.taken.set_exception(error)
            self.taken.exception()  # mark it as retrieved, because its waiter may be gone
        self.ended.set()
        self.drop()
