"""The errors that some caller acts upon (law 9). Everything else is a builtin.

A message is lower case without a full stop and holds no secret. A hint is one sentence that tells the
operator what to do next; the CLI prints it as ``drawwell: hint: …``. `exit_code` follows sysexits(3).
"""


class DrawwellError(Exception):
    """Base of all; never raised itself."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(DrawwellError):
    """The command line asks for something that makes no sense: change the command."""

    exit_code = 64


class BadData(DrawwellError):
    """What was handed in to be judged cannot be judged: gather other data."""

    exit_code = 65


class MissingExtra(DrawwellError):
    """A library that this verb needs is not installed: install it."""

    exit_code = 69


class ConfigError(DrawwellError):
    """The operator edits a file; `faults` carries every fault, each with key and line."""

    exit_code = 78

    def __init__(self, message: str, *, faults: tuple[str, ...] = (), hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.faults = faults


class SelfTestFailure(DrawwellError):
    """A known answer was wrong: refuse to start."""

    exit_code = 70


class StateUnavailable(DrawwellError):
    """The state on disk cannot be read or written: serve nothing that would have to be remembered."""

    exit_code = 74


class PermissionRefused(DrawwellError):
    """The process lacks a right or the peer is not entitled: change who runs it."""

    exit_code = 77


class SourceError(DrawwellError):
    """A noise source cannot be used now."""

    exit_code = 69


class SourceUnavailable(SourceError):
    """Unplugged, busy, stalled: retry with backoff."""


class SourceStalled(SourceUnavailable):
    """There, and silent: the same, and the status says so, as pulling it out helps."""


class SourceRejected(SourceError):
    """Not the device it claims to be, or its firmware is not verified: do not retry."""

    exit_code = 65


class HealthFailure(DrawwellError):
    """A health test fired; nothing of the block may be used.

    Args:
        message: What happened.
        test: Name of the test as in reports ("repetition count", …).
        count: What was counted.
        cutoff: The cutoff it reached.
        position: Index of the sample in its block, 0-based, at which the cutoff was reached.
        hint: What the operator does next.
    """

    exit_code = 69

    def __init__(
        self, message: str, *, test: str, count: int, cutoff: int, position: int, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.test = test
        self.count = count
        self.cutoff = cutoff
        self.position = position


class IntermittentHealthFailure(HealthFailure):
    """Drop the block and run the start-up tests again."""


class PermanentHealthFailure(HealthFailure):
    """Latched: only ``drawwell source reset`` clears it."""


class Refused(DrawwellError):
    """A draw was refused; nothing was taken and nothing charged.

    Args:
        message: What happened.
        retry_after_s: Seconds until the same draw can succeed, None when nobody knows.
        estimate: True when `retry_after_s` rests on a measured rate and not on an account.
        hint: What the operator does next.
    """

    exit_code = 75

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float | None = None,
        estimate: bool = False,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s
        self.estimate = estimate


class Starved(Refused):
    """The reservoir holds too little now: come back later."""


class NoHealthySource(Starved):
    """Fewer healthy sources than the broker must have: come back when somebody has mended it."""

    exit_code = 69


class QuotaExceeded(Refused):
    """The consumer had its rate or its total: come back at `retry_after_s`."""


class DrawRefused(Refused):
    """This draw can never succeed as it is (too large, class not allowed): ask differently."""

    exit_code = 64


class ProtocolError(DrawwellError):
    """Base of the two below; never raised itself."""

    exit_code = 76


class LocalProtocolError(ProtocolError):
    """Our own misuse of a session: a bug."""


class RemoteProtocolError(ProtocolError):
    """The peer misbehaved: drop the link and count it."""


class AuthenticationFailed(RemoteProtocolError):
    """The peer is not who it must be: say nothing on the wire."""

    exit_code = 77


class LinkUnavailable(DrawwellError):
    """The broker cannot be reached: try the next one, then wait."""

    exit_code = 69


class SinkRefused(DrawwellError):
    """The kernel or the reader of a sink said no: stop pouring into it."""

    exit_code = 74


class GuestUnavailable(DrawwellError):
    """A guest, or the software that runs it, cannot be reached or refused: look there."""

    exit_code = 69
