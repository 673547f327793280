"""The session as a state machine without I/O.

Laws:

1. `RECEIVES` and `SENDS` contain all transitions. A frame without an entry for the state is
   the peer's error (RemoteProtocolError) or ours (LocalProtocolError). A broken session stays
   broken.
2. A request id is open from its request to its answer. An open id is not reused, and it is
   answered once. At most MAX_OPEN_REQUESTS are open.
3. A client accepts only a grant with the size, class and receipt that it requested.
4. Unparsed input is bounded: when `next_event` returns None, it is less than one frame.

    BROKER    opening --Hello--> greeted --Welcome sent--> open --Bye, sent or not--> closed
    CLIENT    opening --Hello sent--> greeted --Welcome--> open --Bye, sent or not--> closed
"""

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

from drawwell.entropy.blocks import DrawRequest, Grant
from drawwell.errors import DrawwellError, LocalProtocolError, RemoteProtocolError
from drawwell.wire import limits
from drawwell.wire.frames import Bye, Call, Draw, Frame, Granted, Hello, Refusal, Result, Welcome
from drawwell.wire.parser import FrameParser
from drawwell.wire.refusals import REFUSAL_CODES, to_refusal


class State(Enum):
    """States of a session."""

    OPENING = "opening"
    GREETED = "greeted"
    OPEN = "open"
    CLOSED = "closed"
    BROKEN = "broken"


class Side(Enum):
    """The two ends of a session."""

    BROKER = "broker"
    CLIENT = "client"


Moves = dict[tuple[Side, State], dict[type[Frame], State]]

RECEIVES: Final[Moves] = {
    # There is no row for the broker's GREETED: it must send a welcome first, and input waits.
    (Side.BROKER, State.OPENING): {Hello: State.GREETED, Bye: State.CLOSED},
    (Side.BROKER, State.OPEN): {Draw: State.OPEN, Call: State.OPEN, Bye: State.CLOSED},
    (Side.CLIENT, State.OPENING): {},
    (Side.CLIENT, State.GREETED): {Welcome: State.OPEN, Refusal: State.CLOSED, Bye: State.CLOSED},
    (Side.CLIENT, State.OPEN): {
        Granted: State.OPEN, Result: State.OPEN, Refusal: State.OPEN, Bye: State.CLOSED,
    },
}  # fmt: skip
"""Accepted frames and next states, by state. In a state without a row, input waits or is
dropped.
"""
SENDS: Final[Moves] = {
    (Side.CLIENT, State.OPENING): {Hello: State.GREETED, Bye: State.CLOSED},
    (Side.CLIENT, State.GREETED): {Bye: State.CLOSED},
    (Side.CLIENT, State.OPEN): {Draw: State.OPEN, Call: State.OPEN, Bye: State.CLOSED},
    (Side.BROKER, State.OPENING): {Bye: State.CLOSED},
    (Side.BROKER, State.BROKEN): {Bye: State.CLOSED},
    (Side.CLIENT, State.BROKEN): {Bye: State.CLOSED},
    (Side.BROKER, State.GREETED): {Welcome: State.OPEN, Refusal: State.CLOSED, Bye: State.CLOSED},
    (Side.BROKER, State.OPEN): {
        Granted: State.OPEN, Result: State.OPEN, Refusal: State.OPEN, Bye: State.CLOSED,
    },
}  # fmt: skip
"""Frames that may be sent, and next states, by state."""
_REQUESTS: Final = (Draw, Call)
_EXPECTED: Final = {at: {kind.TYPE: kind for kind in moves} for at, moves in RECEIVES.items()}


class _Session:
    """The common part of both ends: state, parser, open requests."""

    role: Side
    state = State.CLOSED

    def __init__(self) -> None:
        self.parser = FrameParser()
        self.receive_data = self.parser.feed
        """Buffer input; a closed session drops it."""
        self._open: dict[int, Draw | Call] = {}
        self._enter(State.OPENING)

    @property
    def open_requests(self) -> int:
        """The number of unanswered requests."""
        return len(self._open)

    @property
    def unparsed_bytes(self) -> int:
        """The size of unparsed input."""
        return len(self.parser)

    def next_event(self) -> Frame | None:
        """Return the next frame, or None if input or the welcome is needed.

        Raises:
            RemoteProtocolError: the peer violated the protocol; the session is broken.
        """
        if self._expected is None:
            return None
        try:
            frame = self.parser.next_frame(self._expected)
            if isinstance(frame, _REQUESTS):  # only a broker receives them; its state does not change
                if frame.request_id in self._open or len(self._open) >= limits.MAX_OPEN_REQUESTS:
                    raise _excess(frame, self._open)
                self._open[frame.request_id] = frame
            elif frame is not None:
                self._accept(frame)
                state = self._receives[type(frame)]
                if state is not self.state:
                    self._enter(state)
        except RemoteProtocolError:
            self._enter(State.BROKEN)
            raise
        return frame

    def bye(self, reason: str = "") -> bytes:
        """Return the final frame; no other frame may follow."""
        return self._send(Bye(reason))

    def _accept(self, frame: Frame) -> None:
        """Check a well-formed frame that this state accepts."""
        raise NotImplementedError

    def _send(self, frame: Frame) -> bytes:
        state = self._after(type(frame))
        data = frame.encode()
        if state is not self.state:
            self._enter(state)
        return data

    def _after(self, kind: type[Frame]) -> State:
        """Return the state after sending `kind`, or raise LocalProtocolError."""
        state = self._sends.get(kind)
        if state is None:
            raise LocalProtocolError(
                f"a {self.role.value} cannot send {kind.__name__} in state {self.state.value}"
            )
        return state

    def _enter(self, state: State) -> None:
        self.state = state
        at = (self.role, state)
        self._receives = RECEIVES.get(at, {})
        self._expected = _EXPECTED.get(at)
        self._sends = SENDS.get(at, {})
        if state in {State.CLOSED, State.BROKEN}:
            self.parser.close()
            self._open.clear()


def _excess(request: Draw | Call, others: Mapping[int, Draw | Call]) -> RemoteProtocolError:
    if request.request_id in others:
        return RemoteProtocolError(f"request {request.request_id} was sent twice")
    return RemoteProtocolError(f"more than {limits.MAX_OPEN_REQUESTS} open requests")


class ServerSession(_Session):
    """The broker's end. Events are Hello, then Draw and Call, then Bye."""

    role = Side.BROKER

    def __init__(self) -> None:
        super().__init__()
        self._version = 0

    def welcome(
        self,
        broker: str,
        consumer: str,
        *,
        max_draw_bytes: int = limits.MAX_DRAW_BYTES,
        renew_only: bool = False,
    ) -> bytes:
        """Answer a hello; then requests can follow."""
        return self._send(Welcome(self._version, broker, consumer, max_draw_bytes, renew_only))

    def grant(self, request_id: int, grant: Grant) -> bytes:
        """Answer a draw with its bytes."""
        request = self._open.get(request_id)
        if (
            not isinstance(request, Draw)
            or len(grant.data) != request.n_bytes
            or grant.draw_class is not request.draw_class
            or bool(grant.receipt) is not request.receipt
        ):
            raise LocalProtocolError(f"the grant does not match an open request {request_id}")
        if Granted not in self._sends:
            self._after(Granted)
        data = Granted.answer(request_id, grant)
        del self._open[request_id]
        return data

    def result(self, request_id: int, document: dict[str, Any]) -> bytes:
        """Answer a call.

        Raises:
            LocalProtocolError: the request is not open; or the document is too large, and the
                request stays open.
        """
        if not isinstance(self._open.get(request_id), Call):
            raise LocalProtocolError(f"cannot answer request {request_id}, which is not open")
        return self._answer(request_id, Result(request_id, document))

    def refuse(self, request_id: int, error: DrawwellError) -> bytes:
        """Answer a request, or a hello (id SESSION_ID), with an error."""
        if self.state is State.OPEN and request_id not in self._open:
            raise LocalProtocolError(f"cannot refuse request {request_id}, which is not open")
        return self._answer(request_id, to_refusal(request_id, error))

    def _answer(self, request_id: int, frame: Frame) -> bytes:
        data = self._send(frame)
        self._open.pop(request_id, None)
        return data

    def _accept(self, frame: Frame) -> None:
        if isinstance(frame, Hello):
            if limits.PROTOCOL_VERSION not in frame.versions:
                raise RemoteProtocolError(
                    f"no common version: this broker supports {limits.PROTOCOL_VERSION}"
                )
            self._version = limits.PROTOCOL_VERSION


class ClientSession(_Session):
    """The consumer's end. Events are Welcome, then answers, then Bye."""

    role = Side.CLIENT

    def __init__(self) -> None:
        super().__init__()
        self._last_id = 0

    def hello(self, software: str = "") -> bytes:
        """Return the first frame."""
        return self._send(Hello((limits.PROTOCOL_VERSION,), software))

    def draw(self, request: DrawRequest) -> tuple[int, bytes]:
        """Request bytes; return the request's id and the output to send."""
        if not 1 <= request.n_bytes <= limits.MAX_DRAW_BYTES:
            raise LocalProtocolError(f"cannot draw {request.n_bytes} bytes")
        if not 0 <= 1000 * request.patience_s <= limits.MAX_PATIENCE_MS:
            raise LocalProtocolError(f"a draw cannot wait for {request.patience_s} s")
        return self._ask(
            Draw(
                request.n_bytes,
                request.draw_class,
                request.prediction_resistance,
                request.receipt,
                request.patience_s,
                self._new_id(),
            )
        )

    def call(self, verb: str, args: dict[str, Any]) -> tuple[int, bytes]:
        """Call a control verb; return the request's id and the output to send."""
        return self._ask(Call(self._new_id(), verb, args))

    def _ask(self, request: Draw | Call) -> tuple[int, bytes]:
        data = self._send(request)
        self._open[request.request_id] = request
        self._last_id = request.request_id
        return request.request_id, data

    def _new_id(self) -> int:
        if len(self._open) >= limits.MAX_OPEN_REQUESTS:
            raise LocalProtocolError(f"more than {limits.MAX_OPEN_REQUESTS} open requests")
        candidate = self._last_id % limits.MAX_REQUEST_ID + 1
        while candidate in self._open:
            candidate = candidate % limits.MAX_REQUEST_ID + 1
        return candidate

    def _accept(self, frame: Frame) -> None:
        if isinstance(frame, Granted | Result):
            self._close(frame)
        elif isinstance(frame, Refusal):
            self._accept_refusal(frame)
        elif isinstance(frame, Welcome) and frame.version != limits.PROTOCOL_VERSION:
            raise RemoteProtocolError(f"the broker chose version {frame.version}, which was not offered")

    def _close(self, frame: Granted | Result) -> None:
        request = self._open.pop(frame.request_id, None)
        if isinstance(frame, Result):
            fits = isinstance(request, Call)
        else:
            fits = (
                isinstance(request, Draw)
                and len(frame.data) == request.n_bytes
                and frame.draw_class is request.draw_class
                and bool(frame.receipt) is request.receipt
            )
        if not fits:
            raise RemoteProtocolError(
                f"the answer to request {frame.request_id} does not match an open request"
            )

    def _accept_refusal(self, frame: Refusal) -> None:
        if frame.code not in REFUSAL_CODES:
            raise RemoteProtocolError(f"the refusal has the unknown code {frame.code}")
        if self.state is State.GREETED:
            known = frame.request_id == limits.SESSION_ID
        else:
            known = self._open.pop(frame.request_id, None) is not None
        if not known:
            raise RemoteProtocolError(f"request {frame.request_id} was refused, but is not open")
