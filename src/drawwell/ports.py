"""The interfaces of sources, brokers, upstreams and sinks."""

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
    """The driver of one noise source, called from a single task.

    Every await ends in bounded time. A cancelled call can lose samples, but never returns them
    late.
    """

    @property
    def identity(self) -> SourceIdentity:
        """The source's identity as known so far; `open` adds the firmware verdict."""

    async def open(self) -> None:
        """Open, verify and start the device; discard bytes that it had buffered.

        Raises:
            SourceUnavailable: absent, busy or silent; the role retries with backoff.
            SourceRejected: not the claimed device; the role does not retry.
        """

    async def read(self, max_bytes: int) -> RawBlock:
        """Return 1 to `max_bytes` fresh samples.

        Raises:
            SourceUnavailable: unplugged, I/O error, or no sample before the timeout.
        """

    async def command(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        """Run an operator's verb (info, mode, pause, …) between two reads.

        Raises:
            UsageError: this source has no such verb.
            SourceUnavailable: the device is gone.
        """

    async def aclose(self) -> None:
        """Stop and release the device; never raises, even if it is gone."""


class Depositing(Protocol):
    """A source, as a depot sees it."""

    @property
    def name(self) -> str:
        """The source's name in reports and receipts."""

    @property
    def origin(self) -> NoiseOrigin:
        """The origin to record with the source's current bytes."""

    @property
    def healthy(self) -> bool:
        """Whether the source's bytes are usable now."""

    def wake(self) -> None:
        """Notify the source that `Depot.wanted` has changed."""

    def condemn(self, why: str) -> None:
        """Fail permanently, until an operator resets the source."""


class Depot(Protocol):
    """The destination of a source's output: a supply, or a link to one."""

    @property
    def wanted(self) -> bool:
        """Whether the source should be read now."""

    def claim(self, identity: SourceIdentity) -> None:
        """Claim an opened device for this source until `release`.

        Raises:
            SourceRejected: another source already reads the device.
        """

    def release(self) -> None:
        """Release the closed device, then call `wipe`."""

    def wipe(self) -> None:
        """Discard the failed source's output that is not yet in the reservoir."""

    def assess(self, block: TestedBlock) -> None:
        """Count a block that passed the health tests."""

    def deposit(self, output: FullEntropy) -> None:
        """Store and then overwrite an output; if unwanted, count it as discarded."""

    def divert(self, output: FullEntropy) -> None:
        """Count an output that was used for a test."""


class Source(Protocol):
    """A noise source, in this process or another, as the broker sees it."""

    def when_changed(self, notify: Callable[[], None]) -> None:
        """Call `notify` whenever the source's health or state changes."""

    @property
    def name(self) -> str:
        """The source's name in reports and receipts."""

    @property
    def healthy(self) -> bool:
        """Whether the source's bytes are usable now."""

    @property
    def health_epoch(self) -> int:
        """How many times the source has passed its start-up tests."""

    @property
    def supply_bytes_per_s(self) -> float:
        """Full-entropy bytes per second of reading; 0 until measured."""

    def report(self) -> SourceReport:
        """Return the source's current report."""

    def restart(self) -> None:
        """Discard everything read so far and repeat the start-up tests."""

    async def command(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        """Run an operator's verb.

        Raises:
            SourceUnavailable: the source is disconnected.
            UsageError: the source has no such verb.
        """


class Broker(Protocol):
    """The calls behind every door; the door sets the principal."""

    def try_draw(self, principal: Principal, request: DrawRequest) -> Grant | None:
        """Grant `request`; return None if it must wait in `draw`.

        Granted bytes have left the broker when this returns, delivered or not. Raises the
        errors of `draw`.
        """

    async def draw(self, principal: Principal, request: DrawRequest) -> Grant:
        """Grant `request`; if starved, wait in the queue for up to `patience_s`.

        Each consumer in the queue gets an equal share. A cancelled draw takes no bytes.

        Raises:
            PermissionRefused: unknown or revoked consumer.
            DrawRefused: too large, or a class that this consumer may not draw.
            QuotaExceeded: quota or rate exhausted, with the exact time to wait.
            Starved: too few bytes, with an estimate of the wait.
            NoHealthySource: too few healthy sources.
            StateUnavailable: the charge could not be written to disk.
        """

    async def sign(self, grant: Grant) -> Grant:
        """Sign the receipt of a grant; return a grant without a receipt unchanged.

        If signing fails or is cancelled, the grant stays charged, and its receipt is never
        signed.

        Raises:
            StateUnavailable: the receipt was not signed.
        """

    def mix_in(self, principal: Principal, data: bytes) -> None:
        """Mix `data`, without credit, into the DRBG of a consumer that has drawn."""

    async def call(self, principal: Principal, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        """Answer a control verb with a JSON object.

        The door must call `authorisation.may` first. `ANYONE` may call ``status``, and
        receives only whether the broker is ready.

        Raises:
            PermissionRefused: `principal` may not call the verb.
            UsageError: unknown verb or invalid arguments.
        """


class BodySigner(Protocol):
    """A signer of receipts; the key can be in another process."""

    @property
    def key_id(self) -> str:
        """The ID of the signing key, as shown in receipts."""

    @property
    def fault(self) -> str:
        """Why the signer cannot sign now; "" if it can."""

    async def sign(self, bodies: Sequence[bytes]) -> Sequence[bytes]:
        """Return the Ed25519 signatures of the bodies, in order, in bounded time.

        Raises:
            StateUnavailable: no body was signed.
        """


class Registry(Protocol):
    """Authentication of TLS peers. Only `identify` may read a store.

    The handshake has proved that a trusted CA issued the certificate and that the peer has its
    key. It has *not* checked the dates, because an expired certificate can still be renewed.
    """

    async def identify(self, certificate_der: bytes) -> Principal:
        """Return the certificate's consumer.

        Raises:
            StateUnavailable: the store cannot be read.
            AuthenticationFailed: unknown, revoked, not valid yet, or past the grace period.
        """

    def check(self, principal: Principal) -> Principal:
        """Check an identified peer again; its role can change to EXPIRED.

        Raises:
            PermissionRefused: the peer has been revoked.
        """


class Upstream(Protocol):
    """A consumer's link to one broker, connected and reconnected on demand."""

    @property
    def name(self) -> str:
        """The broker's address, for reports."""

    async def draw(self, n_bytes: int, draw_class: DrawClass, **options: Unpack[DrawOptions]) -> Grant:
        """Draw once; a lost reply is not requested again. See `Broker.draw`.

        Raises:
            LinkUnavailable: no connection, or the link broke before the reply was complete.
            AuthenticationFailed: the peer is not the enrolled broker, or the broker refuses
                this machine's certificate.
            Refused, PermissionRefused, StateUnavailable: the broker refused the draw.
        """

    async def call(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        """Call a control verb; same errors as `draw`."""

    async def aclose(self) -> None:
        """Close the link; never raises."""


class Sink(Protocol):
    """The destination of grants. A raw block is a type error (law 1)."""

    @property
    def report(self) -> SinkReport:
        """A report on the deliveries so far."""

    def wanted_bytes(self) -> int:
        """Return how many bytes to draw for the next delivery."""

    async def wait_wanted(self) -> None:
        """Return once the sink wants bytes; some sinks always do."""

    async def deliver(self, grant: Grant) -> SinkReport:
        """Deliver the whole grant.

        Raises:
            SinkRefused: the kernel or reader refused it; a part may have been delivered.
        """

    async def aclose(self) -> None:
        """Release the sink; never raises."""
