"""Both ends of a deposit connection, without I/O.

Laws:

1. A source can deposit only after the broker has accepted it, and while its last report is
   healthy.
2. On each connection, the assessed bits are at least the bits that the deposits need: 576 for
   each output of 512. So the broker's ledger keeps law 4 whatever a source sends.
3. From the broker's RESTART until the source's answer, deposits are counted and discarded.
4. Unparsed input is bounded: when `next_event` returns None, it is less than one frame.

    BROKER    opening --Hello--> greeted --Status--> offered --Want sent--> open --Bye--> over
    SOURCE    offered --Want--> open --Bye--> over

Either end can send Bye.
"""

from enum import Enum
from typing import Any, Final

from drawwell.errors import DrawwellError, LocalProtocolError, RemoteProtocolError, UsageError
from drawwell.reports import SourceReport, SourceState
from drawwell.wire import limits
from drawwell.wire.deposit_frames import DEPOSIT_VERSION, Deposit, Restart, SourceStatus, Want
from drawwell.wire.frames import Bye, Call, Frame, Hello, Refusal, Result
from drawwell.wire.parser import FrameParser
from drawwell.wire.refusals import REFUSAL_CODES, to_refusal


class Stage(Enum):
    """Stages of a connection."""

    OPENING = "opening"
    GREETED = "greeted"
    OFFERED = "offered"
    OPEN = "open"
    OVER = "over"


Expected = dict[Stage, dict[int, type[Frame]]]


def _codes(*kinds: type[Frame]) -> dict[int, type[Frame]]:
    return {kind.TYPE: kind for kind in kinds}


FROM_SOURCE: Final[Expected] = {
    Stage.OPENING: _codes(Hello, Bye),
    Stage.GREETED: _codes(SourceStatus, Bye),
    # There is no row for OFFERED: the broker must act first, and input waits.
    Stage.OPEN: _codes(SourceStatus, Deposit, Restart, Result, Refusal, Bye),
}
"""Frames from a source, by stage. In a stage without a row, input waits or is dropped."""
FROM_BROKER: Final[Expected] = {
    Stage.OFFERED: _codes(Want, Refusal, Bye),
    Stage.OPEN: _codes(Want, Restart, Call, Refusal, Bye),
}


class _End:
    """The common part of both ends."""

    def __init__(self, expected: Expected, stage: Stage) -> None:
        self.stage = stage
        self._expected = expected
        self._parser = FrameParser()
        self.receive_data = self._parser.feed
        """Buffer input; a closed connection drops it."""
        self._open: set[int] = set()

    @property
    def unparsed_bytes(self) -> int:
        """The size of unparsed input."""
        return len(self._parser)

    @property
    def open_requests(self) -> int:
        """The number of unanswered commands."""
        return len(self._open)

    def next_event(self) -> Frame | None:
        """Return the next frame, or None if input or our own action is needed.

        Raises:
            RemoteProtocolError: the peer violated the protocol; the connection is over.
        """
        expected = self._expected.get(self.stage)
        if expected is None:
            return None
        try:
            frame = self._parser.next_frame(expected)
            return None if frame is None else self._accept(frame)
        except RemoteProtocolError:
            self._end()
            raise

    def bye(self, reason: str = "") -> bytes:
        """Return the final frame; no other frame may follow."""
        self._end()
        return Bye(reason).encode()

    def _accept(self, frame: Frame) -> Frame:
        """Check an expected, well-formed frame."""
        if isinstance(frame, Bye):
            self._end()
        return frame

    def _end(self) -> None:
        self.stage = Stage.OVER
        self._parser.close()
        self._open.clear()

    def _require(self, stage: Stage) -> None:
        if self.stage is not stage:
            raise LocalProtocolError(f"cannot send this frame in stage {self.stage.value}")


class Depository(_End):
    """The broker's end. Events: Hello, SourceStatus, then the source's frames."""

    def __init__(self) -> None:
        super().__init__(FROM_SOURCE, Stage.OPENING)
        self._healthy = False
        self._worth_bits = 0
        self._unanswered = 0
        self._last_id = 0

    @property
    def restarting(self) -> bool:
        """Whether the source still has to answer a restart."""
        return self._unanswered > 0

    def accept(self, *, wanted: bool) -> bytes:
        """Accept the offered source."""
        self._require(Stage.OFFERED)
        self.stage = Stage.OPEN
        return Want(wanted).encode()

    def refuse(self, error: DrawwellError) -> bytes:
        """Refuse the offered source, stating the reason."""
        data = to_refusal(limits.SESSION_ID, error).encode()
        self._end()
        return data

    def want(self, *, wanted: bool) -> bytes:
        """Report whether bytes are wanted."""
        self._require(Stage.OPEN)
        return Want(wanted).encode()

    def restart(self) -> bytes:
        """Request that the source discard all bytes read so far."""
        self._require(Stage.OPEN)
        self._unanswered += 1
        return Restart().encode()

    def call(self, verb: str, args: dict[str, Any]) -> tuple[int, bytes]:
        """Send an operator's verb; return the request's id and the output to send.

        Raises:
            UsageError: too many verbs are unanswered.
        """
        self._require(Stage.OPEN)
        if len(self._open) >= limits.MAX_OPEN_REQUESTS:
            raise UsageError("too many commands are waiting for this source", hint="Try again in a moment.")
        self._last_id = self._last_id % limits.MAX_REQUEST_ID + 1
        data = Call(self._last_id, verb, args).encode()
        self._open.add(self._last_id)
        return self._last_id, data

    def _accept(self, frame: Frame) -> Frame:
        if isinstance(frame, Hello):
            if DEPOSIT_VERSION not in frame.versions:
                raise RemoteProtocolError(f"no common version: this broker supports {DEPOSIT_VERSION}")
            self.stage = Stage.GREETED
        elif isinstance(frame, SourceStatus):
            self._healthy = frame.report.state is SourceState.HEALTHY
            self.stage = Stage.OFFERED if self.stage is Stage.GREETED else self.stage
        elif isinstance(frame, Deposit):
            return self._judge(frame)
        elif isinstance(frame, Restart):
            if not self._unanswered:
                raise RemoteProtocolError("the source confirmed a restart that was not requested")
            self._unanswered -= 1
        elif isinstance(frame, Result | Refusal):
            self._answered(frame)
        return super()._accept(frame)

    def _judge(self, deposit: Deposit) -> Deposit:
        if deposit.data and not self._healthy:
            raise RemoteProtocolError("the source deposited while it was not healthy")
        worth_bits = self._worth_bits + deposit.assessed_bits - deposit.needed_bits
        if worth_bits < 0:
            raise RemoteProtocolError("the source deposited more bits than it assessed")
        self._worth_bits = worth_bits
        if not self._unanswered:
            return deposit
        deposit.data[:] = bytes(len(deposit.data))  # type: ignore[index]  # decoded: a bytearray
        return Deposit(deposit.assessed_bits, deposit.spoilt_bytes + len(deposit.data), bytearray())

    def _answered(self, frame: Result | Refusal) -> None:
        if frame.request_id not in self._open:
            raise RemoteProtocolError("the source answered a command that was not sent")
        if isinstance(frame, Refusal) and frame.code not in REFUSAL_CODES:
            raise RemoteProtocolError(f"the source sent a refusal with unknown code {frame.code}")
        self._open.remove(frame.request_id)


class Depositor(_End):
    """The source's end. Events: Want, Restart and Call, then Refusal or Bye."""

    def __init__(self) -> None:
        super().__init__(FROM_BROKER, Stage.OFFERED)

    def offer(self, software: str, report: SourceReport) -> bytes:
        """Offer the source."""
        return Hello((DEPOSIT_VERSION,), software).encode() + SourceStatus(report).encode()

    def report(self, report: SourceReport) -> bytes:
        """Report the source's current state."""
        self._require(Stage.OPEN)
        return SourceStatus(report).encode()

    def deposit(self, assessed_bits: int, spoilt_bytes: int, data: bytes | bytearray) -> bytes:
        """Deposit conditioned bytes."""
        self._require(Stage.OPEN)
        return Deposit(assessed_bits, spoilt_bytes, data).encode()

    def restarted(self) -> bytes:
        """Confirm a restart: bytes read before it will not be deposited."""
        self._require(Stage.OPEN)
        return Restart().encode()

    def result(self, request_id: int, document: dict[str, Any]) -> bytes:
        """Answer a command; raise LocalProtocolError if the answer is too large."""
        data = Result(request_id, document).encode()
        self._open.discard(request_id)
        return data

    def refuse(self, request_id: int, error: DrawwellError) -> bytes:
        """Refuse a command."""
        self._open.discard(request_id)
        return to_refusal(request_id, error).encode()

    def _accept(self, frame: Frame) -> Frame:
        if isinstance(frame, Want):
            self.stage = Stage.OPEN
        elif isinstance(frame, Call):
            if frame.request_id in self._open or len(self._open) >= limits.MAX_OPEN_REQUESTS:
                raise RemoteProtocolError("the broker sent too many commands, or reused a command's id")
            self._open.add(frame.request_id)
        elif isinstance(frame, Refusal):
            if frame.request_id != limits.SESSION_ID or frame.code not in REFUSAL_CODES:
                raise RemoteProtocolError("the broker sent an invalid refusal")
            self._end()
        return super()._accept(frame)
