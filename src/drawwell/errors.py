"""The errors that callers act on (law 9). All other errors are builtins.

A message starts in lower case, without a full stop or secrets. A hint is a sentence about what
to do next. The CLI prints it as ``drawwell: hint: …``. `exit_code` follows sysexits(3).
"""


class DrawwellError(Exception):
    """Base class, not raised itself."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(DrawwellError):
    """Invalid command line or arguments: change the command."""

    exit_code = 64


class BadData(DrawwellError):
    """Data that cannot be assessed: collect other data."""

    exit_code = 65


class MissingExtra(DrawwellError):
    """A missing optional library: install it."""

    exit_code = 69


class ConfigError(DrawwellError):
    """A faulty configuration: edit it. `faults` lists all, by key and line."""

    exit_code = 78

    def __init__(self, message: str, *, faults: tuple[str, ...] = (), hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.faults = faults


class SelfTestFailure(DrawwellError):
    """A failed known-answer test: the program must not start."""

    exit_code = 70


class StateUnavailable(DrawwellError):
    """Unusable state: serve nothing that must be recorded.

    Args:
        message: Description of the failure.
        hint: What the operator can do next.
        cannot: What the broker cannot do. Strangers receive this, so it contains no paths.
    """

    exit_code = 74

    def __init__(self, message: str, *, hint: str | None = None, cannot: str = "write its state") -> None:
        super().__init__(message, hint=hint)
        self.cannot = cannot


class PermissionRefused(DrawwellError):
    """A missing permission: run as another user, or change the permissions."""

    exit_code = 77


class SourceError(DrawwellError):
    """A noise source that cannot be used now."""

    exit_code = 69


class SourceUnavailable(SourceError):
    """A source that is unplugged, busy or stalled: retry with backoff."""


class SourceStalled(SourceUnavailable):
    """A source that is present but silent: retry. Replugging it may help."""


class SourceRejected(SourceError):
    """A source with the wrong identity or unverified firmware: do not retry."""

    exit_code = 65


class HealthFailure(DrawwellError):
    """A failed health test: discard all samples of the block.

    Args:
        message: Description of the failure.
        test: Name of the test as in reports ("repetition count", …).
        count: The test's count.
        cutoff: The cutoff that the count reached.
        position: 0-based index, in the block, of the sample that reached the cutoff.
        hint: What the operator can do next.
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
    """A single failure: discard the block and repeat the start-up tests."""


class PermanentHealthFailure(HealthFailure):
    """A latched failure, which only ``drawwell source reset`` clears."""


class Refused(DrawwellError):
    """A refused draw; no bytes were taken or charged.

    Args:
        message: Description of the refusal.
        retry_after_s: Seconds until the same draw can succeed; None if unknown.
        estimate: Whether `retry_after_s` is an estimate from a measured rate, not exact.
        hint: What the operator can do next.
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
    """The reservoir has too few bytes now: retry later."""


class NoHealthySource(Starved):
    """Fewer healthy sources than required: retry when a source has recovered."""

    exit_code = 69


class QuotaExceeded(Refused):
    """An exhausted rate or quota: retry after `retry_after_s`."""


class DrawRefused(Refused):
    """A draw that can never succeed (size, class): change the request."""

    exit_code = 64


class ProtocolError(DrawwellError):
    """Base class of the local and remote errors below, not raised itself."""

    exit_code = 76


class LocalProtocolError(ProtocolError):
    """Our own incorrect use of a session: a bug."""


class RemoteProtocolError(ProtocolError):
    """Misbehaviour of the peer: drop the connection and count the error."""


class AuthenticationFailed(RemoteProtocolError):
    """A peer that failed authentication: send it nothing."""

    exit_code = 77


class LinkUnavailable(DrawwellError):
    """An unreachable broker: try the next one, then wait."""

    exit_code = 69


class Unreachable(LinkUnavailable):
    """No session, so no draw was sent: with ``--wait``, try again."""


class SinkRefused(DrawwellError):
    """A kernel or reader that refused the bytes: stop."""

    exit_code = 74


class GuestUnavailable(DrawwellError):
    """A guest or hypervisor that is unreachable or refuses: check it."""

    exit_code = 69
