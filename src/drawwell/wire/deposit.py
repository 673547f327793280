"""Both ends of a connection over which a noise source deposits, without I/O: bytes in, frames out, bytes to send.

Laws:

1. Nothing is deposited before the broker has taken the source, and nothing while its last report does not call it
   healthy.
2. At every moment as many bits were assessed, on this connection, as its deposits need: 576 for each output of 512.
   So the broker's ledger keeps law 4 whatever a source says.
3. From the broker's word to begin anew until the source's answer, what comes is counted, and used by nobody.
4. What waits unparsed is bounded: less than one frame once `next_event` has returned None.

    BROKER    opening --Hello--> greeted --Status--> offered --Want sent--> open --Bye, either way--> closed
    SOURCE    offered, from its first bytes --Want--> open --Bye, either way--> closed
"""

from enum import Enum
from typing import Any, Final

from drawwell.errors import DrawwellError, LocalProtocolError, RemoteProtocolError, UsageError
from drawwell.reports import SourceReport, SourceState
from drawwell.wire import limits
from drawwell.wire.deposit_frames import DEPOSIT_VERSION, Anew, Deposit, SourceStatus, Want
from drawwell.wire.frames import Bye, Call, Frame, Hello, Refusal, Result
from drawwell.wire.parser import FrameParser
from drawwell.wire.refusals import REFUSAL_CODES, to_refusal


class Stage(Enum):
    """How far a connection has come."""

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
    # Not named: offered, where it is our turn and nothing is looked at until we have spoken.
    Stage.OPEN: _codes(SourceStatus, Deposit, Anew, Result, Refusal, Bye),
}
"""What a source may say; in a stage without a row, what comes is left or dropped."""
FROM_BROKER: Final[Expected] = {
    Stage.OFFERED: _codes(Want, Refusal, Bye),
    Stage.OPEN: _codes(Want, Anew, Call, Refusal, Bye),
}


class _End:
    """What both ends have."""

    def __init__(self, expected: Expected, stage: Stage) -> None:
        self.stage = stage
        self._expected = expected
        self._parser = FrameParser()
        self._open: set[int] = set()

    @property
    def unparsed_bytes(self) -> int:
        """How much was received and not looked at, or is part of a frame."""
        return len(self._parser)

    @property
    def open_requests(self) -> int:
        """How many commands wait for their answer."""
        return len(self._open)

    def receive_data(self, data: bytes | memoryview) -> None:
        """Take what the peer sent; a connection that is over drops it."""
        if self.stage is not Stage.OVER:
            self._parser.feed(data)

    def next_event(self) -> Frame | None:
        """Return the next frame, None when more must be received or we must speak first.

        Raises:
            RemoteProtocolError: the peer broke the rules; it is over.
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
        """Say the last word; nothing may be said after it."""
        self._end()
        return Bye(reason).encode()

    def _accept(self, frame: Frame) -> Frame:
        """Judge a well-formed frame that may come now."""
        if isinstance(frame, Bye):
            self._end()
        return frame

    def _end(self) -> None:
        self.stage = Stage.OVER
        self._parser.wipe()
        self._open.clear()

    def _insist(self, stage: Stage) -> None:
        if self.stage is not stage:
            raise LocalProtocolError(f"not to be said when {self.stage.value}")


class Depository(_End):
    """The broker's end. Events: Hello, Status, and then Status, Deposit, Anew, Result, Refusal and Bye."""

    def __init__(self) -> None:
        super().__init__(FROM_SOURCE, Stage.OPENING)
        self._healthy = False
        self._worth_bits = 0
        self._unanswered = 0
        self._last_id = 0

    @property
    def anew(self) -> bool:
        """Has the source been told to begin anew, and not yet said that it did?"""
        return self._unanswered > 0

    def accept(self, *, wanted: bool) -> bytes:
        """Take the source that was offered."""
        self._insist(Stage.OFFERED)
        self.stage = Stage.OPEN
        return Want(wanted).encode()

    def refuse(self, error: DrawwellError) -> bytes:
        """Do not take it, and say why."""
        data = to_refusal(limits.SESSION_ID, error).encode()
        self._end()
        return data

    def want(self, *, wanted: bool) -> bytes:
        """Say that bytes are wanted, or not."""
        self._insist(Stage.OPEN)
        return Want(wanted).encode()

    def restart(self) -> bytes:
        """Have the source use nothing that it has read so far."""
        self._insist(Stage.OPEN)
        self._unanswered += 1
        return Anew().encode()

    def call(self, verb: str, args: dict[str, Any]) -> tuple[int, bytes]:
        """Ask an operator's verb; return its id, which the answer bears.

        Raises:
            UsageError: too many wait already.
        """
        self._insist(Stage.OPEN)
        if len(self._open) >= limits.MAX_OPEN_REQUESTS:
            raise UsageError("too many commands wait for this source", hint="Ask again when it has answered.")
        self._last_id = self._last_id % limits.MAX_REQUEST_ID + 1
        data = Call(self._last_id, verb, args).encode()
        self._open.add(self._last_id)
        return self._last_id, data

    def _accept(self, frame: Frame) -> Frame:
        if isinstance(frame, Hello):
            if DEPOSIT_VERSION not in frame.versions:
                raise RemoteProtocolError(f"no version in common: this broker speaks {DEPOSIT_VERSION}")
            self.stage = Stage.GREETED
        elif isinstance(frame, SourceStatus):
            self._healthy = frame.report.state is SourceState.HEALTHY
            self.stage = Stage.OFFERED if self.stage is Stage.GREETED else self.stage
        elif isinstance(frame, Deposit):
            return self._judge(frame)
        elif isinstance(frame, Anew):
            if not self._unanswered:
                raise RemoteProtocolError("an answer to a word that was not said")
            self._unanswered -= 1
        elif isinstance(frame, Result | Refusal):
            self._answered(frame)
        return super()._accept(frame)

    def _judge(self, deposit: Deposit) -> Deposit:
        if deposit.data and not self._healthy:
            raise RemoteProtocolError("a deposit of a source that does not call itself healthy")
        worth_bits = self._worth_bits + deposit.assessed_bits - deposit.needed_bits
        if worth_bits < 0:
            raise RemoteProtocolError("a deposit of more than was assessed")
        self._worth_bits = worth_bits
        if not self._unanswered:
            return deposit
        deposit.data[:] = bytes(len(deposit.data))  # type: ignore[index]  # decoded: a bytearray
        return Deposit(deposit.assessed_bits, deposit.spoilt_bytes + len(deposit.data), bytearray())

    def _answered(self, frame: Result | Refusal) -> None:
        if frame.request_id not in self._open:
            raise RemoteProtocolError("an answer to a command that was not given")
        if isinstance(frame, Refusal) and frame.code not in REFUSAL_CODES:
            raise RemoteProtocolError(f"a refusal with the unknown code {frame.code}")
        self._open.remove(frame.request_id)


class Depositor(_End):
    """The source's end. Events: Want, Anew, Call, and the broker's last word: Refusal or Bye."""

    def __init__(self) -> None:
        super().__init__(FROM_BROKER, Stage.OFFERED)

    def offer(self, software: str, report: SourceReport) -> bytes:
        """Say the first words."""
        return Hello((DEPOSIT_VERSION,), software).encode() + SourceStatus(report).encode()

    def report(self, report: SourceReport) -> bytes:
        """Say what the source is now."""
        self._insist(Stage.OPEN)
        return SourceStatus(report).encode()

    def deposit(self, assessed_bits: int, spoilt_bytes: int, data: bytes | bytearray) -> bytes:
        """Hand over conditioned bytes."""
        self._insist(Stage.OPEN)
        return Deposit(assessed_bits, spoilt_bytes, data).encode()

    def begun_anew(self) -> bytes:
        """Say that nothing from before is used any more."""
        self._insist(Stage.OPEN)
        return Anew().encode()

    def result(self, request_id: int, document: dict[str, Any]) -> bytes:
        """Answer a command; raises LocalProtocolError when the answer is too large."""
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
                raise RemoteProtocolError("a command with an id that is taken, or one too many")
            self._open.add(frame.request_id)
        elif isinstance(frame, Refusal):
            if frame.request_id != limits.SESSION_ID or frame.code not in REFUSAL_CODES:
                raise RemoteProtocolError("a refusal that concerns nothing")
            self._end()
        return super()._accept(frame)
