"""The session as a state machine without I/O: bytes in, frames out, and bytes to send.

Laws:

1. Whatever changes the state of a session stands in `RECEIVES` and `SENDS`; a frame that the table does not name
   for a state is an error, the peer's (RemoteProtocolError) or ours (LocalProtocolError), and a broken session
   stays broken.
2. A request id is open from its request to its answer. It cannot be opened twice nor answered twice, and at most
   MAX_OPEN_REQUESTS are open.
3. A client accepts for a draw only a grant of exactly the bytes, class and receipt that it asked for.
4. What waits unparsed is bounded: less than one frame once `next_event` has returned None.

    BROKER    opening --Hello--> greeted --Welcome sent--> open --Bye, either way--> closed
    CLIENT    opening --Hello sent--> greeted --Welcome--> open --Bye, either way--> closed
"""

from enum import Enum
from typing import Any, Final

from drawwell.entropy.blocks import DrawRequest, Grant
from drawwell.errors import DrawwellError, LocalProtocolError, RemoteProtocolError
from drawwell.wire import limits
from drawwell.wire.frames import Bye, Call, Draw, Frame, Granted, Hello, Refusal, Result, Welcome
from drawwell.wire.parser import FrameParser
from drawwell.wire.refusals import REFUSAL_CODES, to_refusal


class State(Enum):
    """Where a session stands."""

    OPENING = "opening"
    GREETED = "greeted"
    OPEN = "open"
    CLOSED = "closed"
    BROKEN = "broken"


class Side(Enum):
    """Which end this is."""

    BROKER = "broker"
    CLIENT = "client"


Moves = dict[tuple[Side, State], dict[type[Frame], State]]

RECEIVES: Final[Moves] = {
    # Not named: greeted at the broker, where it is our turn and nothing is looked at until we have spoken.
    (Side.BROKER, State.OPENING): {Hello: State.GREETED, Bye: State.CLOSED},
    (Side.BROKER, State.OPEN): {Draw: State.OPEN, Call: State.OPEN, Bye: State.CLOSED},
    (Side.CLIENT, State.OPENING): {},
    (Side.CLIENT, State.GREETED): {Welcome: State.OPEN, Refusal: State.CLOSED, Bye: State.CLOSED},
    (Side.CLIENT, State.OPEN): {
        Granted: State.OPEN, Result: State.OPEN, Refusal: State.OPEN, Bye: State.CLOSED,
    },
}  # fmt: skip
"""From a state, what may come and where it leads. In a state without a row, what comes is left or dropped."""
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
"""From a state, what we may say and where it leads."""
_EXPECTED: Final = {at: {kind.TYPE: kind for kind in moves} for at, moves in RECEIVES.items()}


class _Session:
    """What both ends have: the state, the parser, the open requests."""

    role: Side
    state = State.CLOSED

    def __init__(self) -> None:
        self.parser = FrameParser()
        self._open: dict[int, Draw | Call] = {}
        self._enter(State.OPENING)

    @property
    def open_requests(self) -> int:
        """How many requests wait for their answer."""
        return len(self._open)

    @property
    def unparsed_bytes(self) -> int:
        """How much was received and not looked at, or is part of a frame."""
        return len(self.parser)

    def receive_data(self, data: bytes | memoryview) -> None:
        """Take what the peer sent; a session that is over drops it."""
        if not self._over:
            self.parser.feed(data)

    def next_event(self) -> Frame | None:
        """Return the next frame, None when more must be received (or, for a broker, the welcome sent) first.

        Raises:
            RemoteProtocolError: the peer broke the rules; the session is broken from here on.
        """
        if self._expected is None:
            return None
        try:
            frame = self.parser.next_frame(self._expected)
            if frame is not None:
                self._accept(frame)
                state = self._receives[type(frame)]
                if state is not self.state:
                    self._enter(state)
        except RemoteProtocolError:
            self._enter(State.BROKEN)
            raise
        return frame

    def bye(self, reason: str = "") -> bytes:
        """Say the last word; nothing may be said after it."""
        return self._send(Bye(reason))

    def _accept(self, frame: Frame) -> None:
        """Judge a well-formed frame that may come in this state."""
        raise NotImplementedError

    def _send(self, frame: Frame) -> bytes:
        state = self._after(type(frame))
        data = frame.encode()
        if state is not self.state:
            self._enter(state)
        return data

    def _after(self, kind: type[Frame]) -> State:
        """Return the state that sending such a frame leads to; LocalProtocolError if it may not be sent now."""
        state = self._sends.get(kind)
        if state is None:
            raise LocalProtocolError(f"a {self.role.value} says no {kind.__name__} when {self.state.value}")
        return state

    def _enter(self, state: State) -> None:
        self.state = state
        at = (self.role, state)
        self._receives = RECEIVES.get(at, {})
        self._expected = _EXPECTED.get(at)
        self._sends = SENDS.get(at, {})
        self._over = state in {State.CLOSED, State.BROKEN}
        if self._over:
            self.parser.wipe()
            self._open.clear()


class ServerSession(_Session):
    """The broker's end. Events: Hello, then Draw and Call, then Bye."""

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
        """Answer a hello: from here on there may be requests."""
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
            raise LocalProtocolError(f"a grant that nobody asked for as request {request_id}")
        if Granted not in self._sends:
            self._after(Granted)
        data = Granted.answer(request_id, grant)
        del self._open[request_id]
        return data

    def result(self, request_id: int, document: dict[str, Any]) -> bytes:
        """Answer a call.

        Raises:
            LocalProtocolError: also when the document is over the limit; the call is still open then.
        """
        if not isinstance(self._open.get(request_id), Call):
            raise LocalProtocolError(f"a result that nobody asked for as request {request_id}")
        return self._answer(request_id, Result(request_id, document))

    def refuse(self, request_id: int, error: DrawwellError) -> bytes:
        """Answer a request, or a hello (id SESSION_ID), with the error that the other end will raise."""
        if self.state is State.OPEN and request_id not in self._open:
            raise LocalProtocolError(f"a refusal of request {request_id}, which is not open")
        return self._answer(request_id, to_refusal(request_id, error))

    def _answer(self, request_id: int, frame: Frame) -> bytes:
        data = self._send(frame)
        self._open.pop(request_id, None)
        return data

    def _accept(self, frame: Frame) -> None:
        if isinstance(frame, Draw | Call):
            if frame.request_id in self._open:
                raise RemoteProtocolError(f"request {frame.request_id} was asked twice")
            if len(self._open) >= limits.MAX_OPEN_REQUESTS:
                raise RemoteProtocolError(f"more than {limits.MAX_OPEN_REQUESTS} open requests")
            self._open[frame.request_id] = frame
        elif isinstance(frame, Hello):
            if limits.PROTOCOL_VERSION not in frame.versions:
                raise RemoteProtocolError(
                    f"no version in common: this broker speaks {limits.PROTOCOL_VERSION}"
                )
            self._version = limits.PROTOCOL_VERSION


class ClientSession(_Session):
    """The consumer's end. Events: Welcome, then Granted, Result and Refusal, then Bye."""

    role = Side.CLIENT

    def __init__(self) -> None:
        super().__init__()
        self._last_id = 0

    def hello(self, software: str = "") -> bytes:
        """Say the first word."""
        return self._send(Hello((limits.PROTOCOL_VERSION,), software))

    def draw(self, request: DrawRequest) -> tuple[int, bytes]:
        """Ask for bytes; return the request's id and what to send."""
        if not 1 <= request.n_bytes <= limits.MAX_DRAW_BYTES:
            raise LocalProtocolError(f"a draw of {request.n_bytes} bytes")
        if not 0 <= 1000 * request.patience_s <= limits.MAX_PATIENCE_MS:
            raise LocalProtocolError(f"a draw that waits for {request.patience_s} s")
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
        """Ask a control verb; return the request's id and what to send."""
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
            raise RemoteProtocolError(f"a welcome in version {frame.version}, which was not offered")

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
            raise RemoteProtocolError(f"an answer that was not asked for, to request {frame.request_id}")

    def _accept_refusal(self, frame: Refusal) -> None:
        if frame.code not in REFUSAL_CODES:
            raise RemoteProtocolError(f"a refusal with the unknown code {frame.code}")
        if self.state is State.GREETED:
            known = frame.request_id == limits.SESSION_ID
        else:
            known = self._open.pop(frame.request_id, None) is not None
        if not known:
            raise RemoteProtocolError(f"a refusal of request {frame.request_id}, which is not open")
