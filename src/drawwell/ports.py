"""The seams: what a noise source, a broker, an upstream and a sink promise, on error and on cancel."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, Unpack

from drawwell.authorisation import Principal
from drawwell.entropy.blocks import (
    DrawClass,
    DrawOptions,
    DrawRequest,
    FullEntropy,
    Grant,
    NoiseOrigin,
    RawBlock,
    TestedBlock,
)
from drawwell.reports import SinkReport, SourceIdentity, SourceReport


class NoiseSource(Protocol):
    """A way to one noise source. Not safe for concurrent calls: its role calls it from one task.

    Every await is bounded in time. A cancelled call may have lost samples; it never delivers them later.
    """

    @property
    def identity(self) -> SourceIdentity:
        """Who it is, as far as is known now; the firmware verdict is filled in by `open`."""

    async def open(self) -> None:
        """Open, verify and start it, and drop whatever it held from before.

        Raises:
            SourceUnavailable: not there, busy or silent: the role retries with backoff.
            SourceRejected: not what it claims to be: the role does not retry.
        """

    async def read(self, max_bytes: int) -> RawBlock:
        """Return 1 to `max_bytes` fresh samples.

        Raises:
            SourceUnavailable: unplugged, I/O error, or no sample within the driver's bounded wait.
        """

    async def command(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        """Carry out an operator's verb (info, mode, pause, …) between two reads.

        Raises:
            UsageError: this source has no such verb.
            SourceUnavailable: it went away.
        """

    async def aclose(self) -> None:
        """Stop and let go of it; never raises for a source that is already gone."""


class Depositing(Protocol):
    """A source as the place that it deposits in sees it."""

    @property
    def name(self) -> str:
        """Its name in reports and receipts."""

    @property
    def origin(self) -> NoiseOrigin:
        """What is recorded with the bytes that it gives now."""

    @property
    def healthy(self) -> bool:
        """May its bytes be counted on now?"""

    def wake(self) -> None:
        """Look whether bytes are wanted: that has changed."""

    def condemn(self, why: str) -> None:
        """Fail for good, until an operator's reset."""


class Depot(Protocol):
    """Where one source puts what it has conditioned: a supply, or a link to a broker that has one."""

    @property
    def wanted(self) -> bool:
        """Should the source be read now?"""

    def claim(self, identity: SourceIdentity) -> None:
        """Take a device that was opened as this source's own until `release`.

        Raises:
            SourceRejected: another source reads it.
        """

    def release(self) -> None:
        """Give up the device, after it was closed, and `wipe`."""

    def wipe(self) -> None:
        """Discard what the source gave and nobody can have been served with: it failed."""

    def assess(self, block: TestedBlock) -> None:
        """Count a block that passed the health tests."""

    def deposit(self, output: FullEntropy) -> None:
        """Take over one conditioned output, and overwrite it; what is not wanted is discarded and counted so."""

    def divert(self, output: FullEntropy) -> None:
        """Count an output that went to a test instead."""


class Source(Protocol):
    """A noise source as its broker sees it: in this process, or in one of its own."""

    def when_changed(self, notify: Callable[[], None]) -> None:
        """Have `notify` called whenever what may be counted on has changed."""

    @property
    def name(self) -> str:
        """Its name in reports and receipts."""

    @property
    def healthy(self) -> bool:
        """May its bytes be counted on now?"""

    @property
    def health_epoch(self) -> int:
        """How often it has passed its start-up tests."""

    @property
    def supply_bytes_per_s(self) -> float:
        """Full-entropy bytes a second while it is being read; 0 until that was measured."""

    def report(self) -> SourceReport:
        """The source as it is now."""

    def restart(self) -> None:
        """Use nothing that was read so far, and run the start-up tests again."""

    async def command(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        """Have an operator's verb carried out.

        Raises:
            SourceUnavailable: the source is not there.
            UsageError: it has no such verb.
        """


class Broker(Protocol):
    """The one call that all doors are shells of. The door names the principal, never the peer itself."""

    def try_draw(self, principal: Principal, request: DrawRequest) -> Grant | None:
        """Take what `request` asks for, or return None if the draw has to wait; then `draw` it.

        What is granted is gone from the broker when this returns, delivered or not.

        Raises:
            As `draw`.
        """

    async def draw(self, principal: Principal, request: DrawRequest) -> Grant:
        """Take what `request` asks for. While the reservoir is short the draw waits in the queue, for `patience_s` at
        most; each consumer in the queue gets an equal share. A cancelled draw takes nothing.

        Raises:
            PermissionRefused: unknown or revoked consumer.
            DrawRefused: too large, or a class this consumer may not have.
            QuotaExceeded: with the exact time to wait.
            Starved: with an estimate of the time to wait; NoHealthySource when no time is known.
            StateUnavailable: the charge could not be written down first.
        """

    async def sign(self, grant: Grant) -> Grant:
        """Have the receipt of a grant signed; return one without a receipt as it is.

        A grant whose signature fails, or is not waited for, stays charged. Its receipt is never
        signed later.

        Raises:
            StateUnavailable: the receipt was not signed.
        """

    def mix_in(self, principal: Principal, data: bytes) -> None:
        """Mix `data` into the consumer's own DRBG; it is credited nothing, and does nothing before the first draw."""

    async def call(self, principal: Principal, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        """Answer a control verb with a JSON object.

        The door has asked `authorisation.may` first. `ANYONE` may ask ``status``, and learns
        whether the broker is ready.

        Raises:
            PermissionRefused: `principal` may not ask that.
            UsageError: no such verb, or its arguments are off.
        """


class BodySigner(Protocol):
    """Signs the bodies of receipts. The key may be in another process."""

    @property
    def key_id(self) -> str:
        """The key's name in receipts."""

    @property
    def fault(self) -> str:
        """Why it cannot sign now, "" when it can."""

    async def sign(self, bodies: Sequence[bytes]) -> Sequence[bytes]:
        """Return an Ed25519 signature of each body, in order. Bounded in time.

        Raises:
            StateUnavailable: none of them was signed.
        """


class Registry(Protocol):
    """Who may come in by the TLS door. `identify` may wait for a store; `check` answers from memory.

    The handshake has shown that the certificate leads to a trusted CA and that the peer holds its key. It has
    *not* judged the dates: the registry does, as a certificate that ran out may still ask for a new one.
    """

    async def identify(self, certificate_der: bytes, now: float) -> Principal:
        """Say whose certificate this is at `now` (seconds since 1970), when its session opens.

        Raises:
            StateUnavailable: the store cannot be read.
            AuthenticationFailed: nobody's, revoked, not valid yet, or run out for longer than the grace period.
        """

    def check(self, principal: Principal, now: float) -> Principal:
        """Judge an identified peer again, before each request: its role turns EXPIRED when its certificate does.

        Raises:
            PermissionRefused: revoked meanwhile.
        """


class Upstream(Protocol):
    """A consumer's link to one broker. Opens itself on the first draw and again after a loss."""

    @property
    def name(self) -> str:
        """The broker's address, for reports."""

    async def draw(self, n_bytes: int, draw_class: DrawClass, **options: Unpack[DrawOptions]) -> Grant:
        """Draw once, without retrying: a lost reply is lost. See `Broker.draw`; a link may shorten the patience.

        Raises:
            LinkUnavailable: cannot be reached, or the link broke before the reply was whole.
            AuthenticationFailed: the broker is not the one that was enrolled with, or does not take this
                machine's certificate.
            Refused, PermissionRefused, StateUnavailable: the broker said so.
        """

    async def call(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        """Ask a control verb; raises as `draw` does."""

    async def aclose(self) -> None:
        """Close the link; never raises."""


class Sink(Protocol):
    """Where a consumer pours. Takes grants only: a raw block is a type error (law 1)."""

    @property
    def report(self) -> SinkReport:
        """What it got so far."""

    def wanted_bytes(self) -> int:
        """How much to draw for the next delivery."""

    async def wait_wanted(self) -> None:
        """Return when the sink wants bytes; returns at once for a sink that always does."""

    async def deliver(self, grant: Grant) -> SinkReport:
        """Pour it in whole.

        Raises:
            SinkRefused: the kernel or the reader said no; some of the grant may have gone in.
        """

    async def aclose(self) -> None:
        """Let go of it; never raises."""
