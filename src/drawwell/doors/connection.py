"""One connection at a door: the transport, its back-pressure and its deadlines.

A peer is read only as fast as it reads: while bytes wait to be sent to it, or too much is owed to it, no more
requests are looked at and none are read. It is served within its consumer's share of the loop's
time (`doors/shares.py`), and not read while it waits for its turn.
"""

import abc
import asyncio
import socket
import time
from collections.abc import Coroutine
from typing import Any, Final, cast

from drawwell.doors.admission import QUIET_S, source_of
from drawwell.doors.door import Door
from drawwell.doors.session_machine import SessionMachine
from drawwell.doors.shares import TURN_S, Share, shares_of
from drawwell.doors.sockets import credentials
from drawwell.service.faults import log_fault

LINGER_S: Final = 2.0
"""After our last word: how long the peer may take to read it and close. To close first would drop it unread."""
_COALESCE_BYTES: Final = 131_072
"""Answers are joined into one write up to here: two of the largest."""
REQUESTS_PER_TURN: Final = 64
"""Then the other connections have their turn."""
_TASK_S: Final = 0.0003
"""What a request costs outside its turn: a task, and a signature or the work of a verb."""


class Connection(asyncio.BufferedProtocol, abc.ABC):
    """What all doors' connections have. A ServedConnection."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._opened_at = self._heard_at = self._loop.time()
        self.address = ""
        self._admitted = False
        self._leaving_since: float | None = None
        self._blocked = False
        self._written_bytes = 0
        self._write_mark = 0
        self._write_mark_at = self._opened_at
        self._share: Share | None = None
        """Its consumer's share of the loop, None until that is known."""
        self._backlog = b""
        """What came while that was used up."""
        self._waits = False
        """For its turn."""

    @abc.abstractmethod
    def _received(self, data: memoryview) -> None:
        """Use up what was read; it is overwritten afterwards."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Come in (asyncio)."""
        self._transport = cast("asyncio.Transport", transport)
        self.address = source_of(transport.get_extra_info("peername")) or _user_of(transport)
        self._door.enter(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio
        """Lend the door's buffer (asyncio)."""
        return self._door.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Use what was read into it (asyncio)."""
        if self._leaving_since is not None:
            return
        self._heard_at = self._loop.time()
        share, data, begun = self._share, self._door.buffer[:nbytes], time.perf_counter()
        if share is None:
            self._received(data)
        elif share.may_go(begun):
            self._received(data)
            ended = time.perf_counter()
            share.spend(ended - begun, ended)
        else:
            self._backlog += data
            self._wait_turn(share)

    def take_turn(self) -> None:
        """Handle what came meanwhile (Waiter)."""
        self._waits = False
        backlog, self._backlog = self._backlog, b""
        if self._transport is None or self._leaving_since is not None:
            return
        try:
            if backlog:
                self._received(memoryview(backlog))
            self._resume()
        except Exception as error:  # noqa: BLE001 - whatever it is: the other connections go on
            self._give_up(error)

    def _resume(self) -> None:
        """Continue after a wait for the turn."""
        if self._transport is not None and not self._waits:
            self._transport.resume_reading()

    def eof_received(self) -> bool:
        """Take the end of the peer's words for the end: it is sent what is ready, and no more (asyncio)."""
        return False

    def pause_writing(self) -> None:
        """Stop answering: the peer does not read (asyncio)."""
        self._blocked = True

    def resume_writing(self) -> None:
        """Go on: it has read (asyncio)."""
        self._blocked = False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio
        """Go (asyncio)."""
        self._transport = None
        self._door.leave(self)

    def quiet_s(self, now: float) -> float:
        """How long we have waited for it; a peer that said nothing that has an answer counts too (ServedConnection)."""
        return now - self._heard_at + (0 if self._written_bytes else QUIET_S)

    def overdue(self, now: float) -> bool:
        """Whether a deadline is past (ServedConnection)."""
        if self._transport is None:
            return False
        if self._leaving_since is not None:
            return now - self._leaving_since > LINGER_S
        if not self._admitted:
            return now - self._opened_at > self._door.limits.handshake_deadline_s
        return self._write_overdue(now)

    def abort(self) -> None:
        """End it at once (ServedConnection)."""
        if self._transport is not None:
            self._transport.abort()

    def recheck(self) -> None:
        """End it unless the door still expects its user (ServedConnection)."""
        expects, transport = self._door.expects, self._transport
        if transport is not None and expects is not None:
            _pid, uid, gid = credentials(transport.get_extra_info("socket"))
            if not expects(uid, gid):
                self.abort()

    def farewell(self) -> None:
        """End it in order (ServedConnection)."""
        transport = self._transport
        if transport is not None:
            transport.abort() if transport.get_write_buffer_size() else transport.close()

    def _admit(self, consumer: str) -> None:
        if not self._admitted:
            self._admitted = True
            self._share = shares_of(self._loop).of(consumer)
            self._door.admit(self, consumer)

    def _wait_turn(self, share: Share) -> None:
        """Wait for the turn; until then nothing is read."""
        if not self._waits and self._transport is not None:
            self._waits = True
            self._transport.pause_reading()
            share.wait(self)

    def _give_up(self, error: Exception) -> None:
        log_fault("a session", error)
        self.abort()

    def _write(self, data: bytes) -> None:
        if data and self._transport is not None:
            self._written_bytes += len(data)
            self._transport.write(data)

    def _leave(self) -> None:
        """Send what is left, then the end; wait for the peer's own."""
        transport = self._transport
        if self._leaving_since is None and transport is not None and not transport.is_closing():
            self._leaving_since = self._loop.time()
            try:
                transport.write_eof()
            except OSError:
                transport.abort()  # it is gone already
            else:
                transport.resume_reading()

    def _write_overdue(self, now: float) -> bool:
        """Whether something that was written has lain here for longer than the deadline."""
        transport = self._transport
        waiting_bytes = transport.get_write_buffer_size() if transport is not None else 0
        if not waiting_bytes or self._written_bytes - waiting_bytes >= self._write_mark:
            self._write_mark = self._written_bytes
            self._write_mark_at = now
        return now - self._write_mark_at > self._door.limits.write_deadline_s


def _user_of(transport: asyncio.BaseTransport) -> str:
    """Name the local user behind a Unix socket: of half-open connections each has its own share."""
    sock = transport.get_extra_info("socket")
    return f"user {credentials(sock)[1]}" if sock is not None and sock.family == socket.AF_UNIX else ""


class AnsweringConnection(Connection):
    """A connection that is asked and answers, some of it at once and some in tasks.

    `_answer` looks at what was asked, at most `REQUESTS_PER_TURN` of it, and ends with `_throttle`.
    """

    def __init__(self, door: Door) -> None:
        super().__init__(door)
        self._requests: set[asyncio.Task[None]] = set()
        self._paused = False
        """Whether reading from the peer is paused."""
        self._part_mark = 0
        self._part_mark_at = self._opened_at

    @abc.abstractmethod
    def _answer(self) -> None:
        """Answer what can be answered in one turn."""

    @abc.abstractmethod
    def _part(self) -> int | None:
        """Which request is here in part, as a count; None when there is none, or we keep it waiting ourselves."""

    def resume_writing(self) -> None:
        """Answer what waited (asyncio)."""
        super().resume_writing()
        self._pump()

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop what waited (asyncio)."""
        super().connection_lost(exc)
        self._drop_requests()

    def overdue(self, now: float) -> bool:
        """Whether a deadline is past, those of requests too (ServedConnection)."""
        if super().overdue(now):
            return True
        return self._admitted and (self._part_overdue(now) or self._idle(now))

    def farewell(self) -> None:
        """End it in order (ServedConnection)."""
        self._drop_requests()
        super().farewell()

    def _pump(self) -> None:
        """Answer; a fault of ours costs this connection, and no other."""
        if self._transport is not None and self._leaving_since is None:
            try:
                self._answer()
            except Exception as error:  # noqa: BLE001 - whatever it is: the other connections go on
                self._give_up(error)

    def _throttle(self, *, stalled: bool, again: bool) -> None:
        """Resume reading unless `stalled`; take another turn if there is more to do `again`."""
        if self._transport is None:
            return
        if again and not self._blocked and self._share is not None:
            self._wait_turn(self._share)
        self._paused = self._waits or self._blocked or stalled
        if self._paused:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _resume(self) -> None:
        self._paused = True
        self._pump()

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._door.spawn(self._contained(coroutine))
        self._requests.add(task)
        task.add_done_callback(self._finished)
        task.add_done_callback(
            lambda _: coroutine.close()
        )  # it never began when the task was cancelled at once

    async def _contained(self, coroutine: Coroutine[Any, Any, None]) -> None:
        try:
            await coroutine
        except Exception as error:  # noqa: BLE001 - as in _pump
            self._give_up(error)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._requests.discard(task)
        if task.cancelled():
            return
        if self._share is None:
            self._pump()
        else:
            self._share.charge(_TASK_S)
            self._wait_turn(self._share)  # what is ready by then leaves together

    def _drop_requests(self) -> None:
        for task in tuple(self._requests):
            task.cancel()

    def _part_overdue(self, now: float) -> bool:
        """Whether the first bytes of a request have waited for its last for longer than the deadline."""
        part = self._part()
        if self._blocked or self._waits or part is None or part != self._part_mark:
            self._part_mark = -1 if part is None else part
            self._part_mark_at = now
        return now - self._part_mark_at > self._door.limits.frame_deadline_s

    def _idle(self, now: float) -> bool:
        deadline_s = self._door.limits.idle_deadline_s
        return deadline_s is not None and not self._requests and now - self._heard_at > deadline_s


class SessionConnection(AnsweringConnection):
    """A connection with a `SessionMachine`; TLS may lie between them."""

    def __init__(self, door: Door) -> None:
        super().__init__(door)
        self._conversation: SessionMachine | None = None

    def _received(self, data: memoryview) -> None:
        self._converse(data)

    def _transmit(self, data: bytes) -> None:
        """Send what the session has to send."""
        self._write(data)

    def farewell(self) -> None:
        """Say goodbye first (ServedConnection)."""
        if self._conversation is not None and self._admitted and not self._blocked:
            self._conversation.end("the broker is closing")
            self._flush(self._conversation)
        super().farewell()

    def recheck(self) -> None:
        """End it unless its credential still counts (ServedConnection)."""
        super().recheck()
        if self._conversation is not None:
            self._conversation.recheck()
            self._pump()

    def _converse(self, data: bytes | memoryview) -> None:
        conversation = self._conversation
        if conversation is not None:
            conversation.receive_data(data)
            self._pump()

    def _answer(self) -> None:
        conversation, transport = self._conversation, self._transport
        if conversation is None or transport is None:
            return
        ends, more, late = time.perf_counter() + TURN_S, True, False
        while more and not late and not self._blocked:
            more = conversation.step()
            late = more and time.perf_counter() > ends
            if conversation.outgoing_bytes >= _COALESCE_BYTES:
                self._flush(conversation)
                if transport.is_closing():
                    return  # the peer has gone: nothing more is drawn for it
        if conversation.outgoing_bytes:
            self._transmit(conversation.take_outgoing())
        if conversation.admitted and not self._admitted:
            self._admit(conversation.consumer)
        if conversation.over:
            self._end(conversation)
        elif late or self._paused or self._blocked or conversation.stalled:
            self._throttle(stalled=conversation.stalled, again=late)

    def _part(self) -> int | None:
        return self._conversation.part if self._conversation else None

    def _flush(self, conversation: SessionMachine) -> None:
        if conversation.outgoing_bytes:
            self._transmit(conversation.take_outgoing())

    def _end(self, conversation: SessionMachine) -> None:
        self._door.counts.protocol_errors += bool(conversation.fault)
        self._drop_requests()
        self._leave()
