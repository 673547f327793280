"""One connection over which a source deposits: what it says and hears, and the back-pressure."""

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
from drawwell.wire.deposit_frames import MAX_DEPOSIT_BYTES, Anew, Want
from drawwell.wire.frames import Bye, Call, Frame, Refusal
from drawwell.wire.refusals import to_error

REPORT_S: Final = 1.0
"""How often counters are told while they change; a state is told at once."""
HEARTBEAT_S: Final = 5.0
"""How often it speaks when there is nothing to say: a source that is silent is taken for gone."""


class DepositProtocol(asyncio.Protocol):
    """One connection. `taken` is done when the broker has taken the source in."""

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
        self._error: DrawwellError = LinkUnavailable("the broker went away")

    @property
    def ready(self) -> bool:
        """Can something be sent, and does the broker read?"""
        return (
            self._session.stage is Stage.OPEN
            and not self._blocked
            and self._transport is not None
            and not self._transport.is_closing()
        )

    # ---- what is sent --------------------------------------------------------------------------------------

    def put(self, data: bytearray) -> None:
        """Send it with whatever else comes in this turn; what cannot be sent is counted as lost."""
        if not self.ready or len(self._buffer) + len(data) > MAX_DEPOSIT_BYTES:
            self.spoilt_bytes += len(data)
            return
        self._buffer += data
        if self._flushing is None:
            self._flushing = self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Send what was put."""
        if self._flushing:
            self._flushing.cancel()
            self._flushing = None
        if (self._buffer or self.spoilt_bytes) and self._session.stage is Stage.OPEN:
            self._write(self._session.deposit(self.assessed_bits, self.spoilt_bytes, self._buffer))
            self.assessed_bits = self.spoilt_bytes = 0
        self._wipe()

    def report(self) -> None:
        """Say what the source is now; what was conditioned before stands before it."""
        if self._session.stage is Stage.OPEN:
            self.flush()
            self._said, self._said_at = self._source.report(), self._loop.time()
            self._write(self._session.report(self._said))

    def leave(self, reason: str) -> None:
        """Say the last word."""
        if self._session.stage is Stage.OPEN:
            self._write(self._session.bye(reason))
        if self._transport:
            self._transport.close()

    def drop(self) -> None:
        """End it; what is not sent is lost."""
        self._wipe()
        if self._transport:
            self._transport.abort()

    async def converse(self) -> None:
        """Tell the counters, and have commands carried out, until the connection ends.

        Raises:
            DrawwellError: why it did.
        """
        async with asyncio.TaskGroup() as group:
            tasks = {group.create_task(self._tell_counters())}
            tasks.add(group.create_task(self._obey(group, tasks)))
            await self.ended.wait()
            # not by raising here: a cancellation that comes while a group ends with an error is lost (Python 3.11)
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
        except Exception as error:  # noqa: BLE001 - whatever it is: the source goes on
            log_fault(f"the verb {call.verb!r}", error)
            answer = self._session.refuse(call.request_id, SourceError("a fault in drawwell"))
        self._write(answer)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _wipe(self) -> None:
        self._buffer[:] = bytes(len(self._buffer))
        self._buffer = bytearray()

    # ---- what comes ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Offer the source (asyncio)."""
        self._transport = cast("asyncio.Transport", transport)
        self._said, self._said_at = self._source.report(), self._loop.time()
        self._write(self._session.offer(f"drawwell {__version__}", self._said))

    def data_received(self, data: bytes) -> None:
        """Take the broker's words (asyncio)."""
        self._session.receive_data(data)
        try:
            while (event := self._session.next_event()) is not None:
                self._handle(event)
        except RemoteProtocolError as error:
            self._end(LinkUnavailable(f"the broker broke the protocol: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio
        """Tell whoever waits (asyncio)."""
        self._transport = None
        self._end(self._error)

    def pause_writing(self) -> None:
        """Stop depositing: the broker does not read (asyncio)."""
        self._blocked = True

    def resume_writing(self) -> None:
        """Go on (asyncio)."""
        self._blocked = False
        self._turned()

    def _handle(self, event: Frame) -> None:
        if isinstance(event, Want):
            self.wanted = event.wanted
            if not self.taken.done():
                self.taken.set_result(None)
            self._turned()
        elif isinstance(event, Anew):
            self._restart()
        elif isinstance(event, Call):
            self._commands.put_nowait(event)
        elif isinstance(event, Refusal):
            self._end(to_error(event))
        elif isinstance(event, Bye):
            self._end(LinkUnavailable(f"the broker ended it: {event.reason or 'no reason given'}"))

    def _restart(self) -> None:
        """Nothing of before is sent after our answer, and our new state stands before it."""
        self.spoilt_bytes += len(self._buffer)
        self._wipe()
        self._source.restart()
        self.report()
        self._write(self._session.begun_anew())

    def _end(self, error: DrawwellError) -> None:
        if self.ended.is_set():
            return
        self._error = error
        if not self.taken.done():
            self.taken.set_exception(error)
            self.taken.exception()  # seen: who was waiting may have gone
        self.ended.set()
        self.drop()
