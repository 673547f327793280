"""A connection at a door: its transport, back-pressure and deadlines.

We read from a peer only as fast as it reads. While output is pending, or too many bytes are
owed to the peer, no requests are processed and no bytes are read. Each consumer has a share of
the loop's time (`doors/shares.py`). While its connections wait for their turn, they are not
read.
"""

import abc
import asyncio
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, cast

from drawwell.doors.admission import QUIET_S, source_of
from drawwell.doors.door import Door
from drawwell.doors.session_machine import SessionMachine
from drawwell.doors.shares import TURN_S, Share, shares_of
from drawwell.doors.sockets import credentials
from drawwell.service.faults import log_fault

LINGER_S: Final = 2.0
"""How long a peer can take to read our last bytes; closing immediately could lose them."""
_COALESCE_BYTES: Final = 131_072
"""The maximum size of one write of joined answers: two of the largest answers."""
REQUESTS_PER_TURN: Final = 64
"""The number of requests after which other connections have their turn."""
_TASK_S: Final = 0.0003
"""The time charged for a request that a task answers, including a signature or a verb."""


class Connection(asyncio.BufferedProtocol, abc.ABC):
    """The base class of all doors' connections (ServedConnection)."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = door.buffer
        self._opened_at = self._received_at = self._loop.time()
        self.address = ""
        self._admitted = False
        self._leaving_since: float | None = None
        self._blocked = False
        self._written_bytes = 0
        self._write_mark = 0
        self._write_mark_at = self._opened_at
        self._share: Share | None = None
        """The consumer's share of the loop, or None until the consumer is known."""
        self._backlog = b""
        """Bytes that arrived after the share was used up."""
        self._waits = False
        """Whether the connection waits for its turn."""

    @abc.abstractmethod
    def _received(self, data: memoryview) -> None:
        """Process all bytes; the buffer is reused afterwards."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the new connection (asyncio)."""
        self._transport = cast("asyncio.Transport", transport)
        self.address = source_of(transport.get_extra_info("peername")) or _user_of(transport)
        self._door.enter(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio
        """Lend the door's buffer (asyncio)."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Process received bytes (asyncio)."""
        if self._leaving_since is not None:
            return
        self._received_at = self._loop.time()
        share, data = self._share, self._buffer[:nbytes]
        if share is None:
            self._received(data)
        elif not share.run(self._received, data):
            self._backlog += data
            self._wait_turn(share)

    def take_turn(self) -> None:
        """Process the bytes that arrived before the turn (Waiter)."""
        self._waits = False
        backlog, self._backlog = self._backlog, b""
        if self._transport is None or self._leaving_since is not None:
            return
        try:
            if backlog:
                self._received(memoryview(backlog))
            self._resume()
        except Exception as error:  # noqa: BLE001 - one connection must not stop the others
            self._give_up(error)

    def _resume(self) -> None:
        """Resume after waiting for a turn."""
        if self._transport is not None and not self._waits:
            self._transport.resume_reading()

    def eof_received(self) -> bool:
        """Close on EOF, after sending pending output (asyncio)."""
        return False

    def pause_writing(self) -> None:
        """Stop answering, because the peer does not read (asyncio)."""
        self._blocked = True

    def resume_writing(self) -> None:
        """Resume answering (asyncio)."""
        self._blocked = False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio
        """Deregister the connection (asyncio)."""
        self._transport = None
        self._door.leave(self)

    def quiet_s(self, now: float) -> float:
        """Return how long we have waited, plus `QUIET_S` if we have sent nothing."""
        return now - self._received_at + (0 if self._written_bytes else QUIET_S)

    def overdue(self, now: float) -> bool:
        """Return whether a deadline has passed (ServedConnection)."""
        if self._transport is None:
            return False
        if self._leaving_since is not None:
            return now - self._leaving_since > LINGER_S
        if not self._admitted:
            return now - self._opened_at > self._door.limits.handshake_deadline_s
        return self._write_overdue(now)

    def abort(self) -> None:
        """Close immediately (ServedConnection)."""
        if self._transport is not None:
            self._transport.abort()

    def recheck(self) -> None:
        """Close unless the door still admits the peer's user (ServedConnection)."""
        expects, transport = self._door.expects, self._transport
        if transport is not None and expects is not None:
            _pid, uid, gid = credentials(transport.get_extra_info("socket"))
            if not expects(uid, gid):
                self.abort()

    def farewell(self) -> None:
        """Close in an orderly way (ServedConnection)."""
        transport = self._transport
        if transport is not None:
            transport.abort() if transport.get_write_buffer_size() else transport.close()

    def _admit(self, consumer: str) -> None:
        if not self._admitted:
            self._admitted = True
            self._share = shares_of(self._loop).of(consumer)
            self._door.admit(self, consumer)

    def _wait_turn(self, share: Share) -> None:
        """Pause reading until the connection has its turn."""
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
        """Send the pending output and EOF, then wait for the peer's EOF."""
        transport = self._transport
        if self._leaving_since is None and transport is not None and not transport.is_closing():
            self._leaving_since = self._loop.time()
            try:
                transport.write_eof()
            except OSError:
                transport.abort()  # already closed
            else:
                transport.resume_reading()

    def _write_overdue(self, now: float) -> bool:
        """Return whether output has been pending for longer than the deadline."""
        transport = self._transport
        waiting_bytes = transport.get_write_buffer_size() if transport is not None else 0
        if not waiting_bytes or self._written_bytes - waiting_bytes >= self._write_mark:
            self._write_mark = self._written_bytes
            self._write_mark_at = now
        return now - self._write_mark_at > self._door.limits.write_deadline_s


def _user_of(transport: asyncio.BaseTransport) -> str:
    """Return a name for the peer's local user, used as its address."""
    sock = transport.get_extra_info("socket")
    return f"user {credentials(sock)[1]}" if sock is not None and sock.family == socket.AF_UNIX else ""


class AnsweringConnection(Connection):
    """A connection that answers requests, immediately or in tasks.

    `_answer` processes at most `REQUESTS_PER_TURN` requests and ends with `_throttle`.
    """

    def __init__(self, door: Door) -> None:
        super().__init__(door)
        self._requests: set[asyncio.Task[None]] = set()
        self._paused = False
        """Whether reading is paused."""
        self._turn_ends = 0.0
        """When to stop answering until the next turn; a task counts in advance."""
        self._part_mark = 0
        self._part_mark_at = self._opened_at

    @abc.abstractmethod
    def _answer(self) -> None:
        """Answer as many requests as one turn allows."""

    @abc.abstractmethod
    def _part(self) -> int | None:
        """Return the incomplete request's number, or None (also if we delay it)."""

    def resume_writing(self) -> None:
        """Answer the waiting requests (asyncio)."""
        super().resume_writing()
        self._pump()

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop the waiting requests (asyncio)."""
        super().connection_lost(exc)
        self._drop_requests()

    def overdue(self, now: float) -> bool:
        """Return whether a deadline, also of a request, has passed."""
        if super().overdue(now):
            return True
        return self._admitted and (self._part_overdue(now) or self._idle(now))

    def farewell(self) -> None:
        """Close in an orderly way (ServedConnection)."""
        self._drop_requests()
        super().farewell()

    def _pump(self) -> None:
        """Answer requests; a bug closes only this connection."""
        if self._transport is not None and self._leaving_since is None:
            try:
                self._answer()
            except Exception as error:  # noqa: BLE001 - one connection must not stop the others
                self._give_up(error)

    def _throttle(self, *, stalled: bool, again: bool) -> None:
        """Keep reading unless `stalled`; request a turn for more input (`again`)."""
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
        self._turn_ends -= _TASK_S
        task = self._door.spawn(self._contained(coroutine))
        self._requests.add(task)
        task.add_done_callback(self._finished)
        task.add_done_callback(lambda _: coroutine.close())  # a task cancelled before its start never runs it

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
            self._wait_turn(self._share)  # answers that are ready at that turn are joined into one write

    def _drop_requests(self) -> None:
        for task in tuple(self._requests):
            task.cancel()

    def _part_overdue(self, now: float) -> bool:
        """Return whether a request has been incomplete beyond the deadline."""
        part = self._part()
        if self._blocked or self._waits or part is None or part != self._part_mark:
            self._part_mark = -1 if part is None else part
            self._part_mark_at = now
        return now - self._part_mark_at > self._door.limits.frame_deadline_s

    def _idle(self, now: float) -> bool:
        deadline_s = self._door.limits.idle_deadline_s
        return deadline_s is not None and not self._requests and now - self._received_at > deadline_s


class SessionConnection(AnsweringConnection):
    """A connection with a `SessionMachine`, with or without TLS."""

    def __init__(self, door: Door) -> None:
        super().__init__(door)
        self._conversation: SessionMachine | None = None
        self._seal: Callable[[bytes], bytes] | None = None
        """Encrypts the session's output; None if it is sent unencrypted."""

    def _received(self, data: memoryview) -> None:
        self._converse(data)

    def _transmit(self, data: bytes) -> None:
        """Send the session's output."""
        self._write(self._seal(data) if self._seal else data)

    def farewell(self) -> None:
        """Send a goodbye, then close (ServedConnection)."""
        if self._conversation is not None and self._admitted and not self._blocked:
            self._conversation.end("the broker is closing")
            self._flush(self._conversation.outgoing)
        super().farewell()

    def recheck(self) -> None:
        """Close unless the peer's credential is still valid (ServedConnection)."""
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
        self._turn_ends, more, late = time.perf_counter() + TURN_S, True, False
        while more and not late and not self._blocked:
            more = conversation.step()
            late = more and time.perf_counter() > self._turn_ends
            if more and conversation.outgoing_bytes >= _COALESCE_BYTES:
                self._flush(conversation.outgoing)
                if transport.is_closing():
                    return  # the peer is gone: do not draw for it
        self._flush(conversation.outgoing)
        if conversation.admitted and not self._admitted:
            self._admit(conversation.consumer)
        if conversation.over:
            self._end(conversation)
        elif late or self._paused or self._blocked or conversation.stalled:
            self._throttle(stalled=conversation.stalled, again=late)

    def _part(self) -> int | None:
        return self._conversation.part if self._conversation else None

    def _flush(self, outgoing: list[bytes]) -> None:
        if outgoing:
            data = b"".join(outgoing)
            outgoing.clear()
            self._transmit(data)

    def _end(self, conversation: SessionMachine) -> None:
        self._door.counts.protocol_errors += bool(conversation.fault)
        self._drop_requests()
        self._leave()
