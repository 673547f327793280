"""Frozen snapshots of the engine's state for all renderers (law 12).

Field names are also the JSON names. Sizes are in bytes, entropy in bits, and times in seconds.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final


class Report:
    """A value that `as_json` accepts."""

    __slots__ = ()


class SourceState(StrEnum):
    """States of a source; entropy/health.py has the transitions."""

    OFF = "off"
    STARTING = "starting"
    HEALTHY = "healthy"
    INTERMITTENT_FAILURE = "intermittent failure"
    PERMANENT_FAILURE = "permanent failure"


class Firmware(StrEnum):
    """The verdict on a source's firmware image."""

    VERIFIED = "image signature verified, as reported by the device"
    NOT_VERIFIED = "not verified"
    COULD_NOT_CHECK = "could not check"
    NOT_APPLICABLE = "no firmware to verify"


class Evidence(StrEnum):
    """The evidence for bytes, strongest first (entropy/credit.py)."""

    DEVICE = "noise device"
    UNVOUCHED = "unvouched"
    """Bytes of unknown origin, from a FIFO, program, link or virtual device."""
    NO_NOISE = "no noise"
    """Bytes from a simulator, a recording or a generator."""


RAW_NOISE: Final = "raw noise"
CONDITIONED: Final = "after the maker's conditioning"
NOT_NOISE: Final = "not a noise source"
"""The end of the `noise` text for bytes that never earn credit."""


@dataclass(frozen=True, slots=True)
class SourceIdentity(Report):
    """The identity of a source.

    `kind` is the driver's name. `path` is the device node. `stable_name` does not depend on
    the node's name: it is the USB path, the device or inode numbers, or a digest of the
    command. `firmware_detail` has key, hash and version. `noise` describes the tested samples:
    "raw noise", "after the maker's conditioning", or "not a noise source".
    """

    name: str
    kind: str
    path: str
    stable_name: str = ""
    simulated: bool = False
    firmware: Firmware = Firmware.NOT_APPLICABLE
    firmware_detail: str = ""
    noise: str = RAW_NOISE
    hardware_id: str = ""
    """The device's own 128-bit ID (only for a V3 OneRNG), as 32 hexadecimal digits."""

    def is_same_device(self, other: "SourceIdentity") -> bool:
        """Return whether `self` and `other` are the same device."""
        same_id = bool(self.hardware_id) and self.hardware_id == other.hardware_id
        return same_id or (self.stable_name or self.path) == (other.stable_name or other.path)


@dataclass(frozen=True, slots=True)
class HealthTestReport(Report):
    """The cutoffs and counts of one health test."""

    name: str
    unit: str
    min_entropy: float
    window: int
    cutoff_intermittent: int
    cutoff_permanent: int
    worst_count: int
    failures: int
    recent_count: int = 0
    """The worst count in the last full minute and the current one."""


@dataclass(frozen=True, slots=True)
class DriftReport(Report):
    """The frequency of the most common value (entropy/most_common.py).

    `min_entropy` is the last window's estimate in bits per sample; 0 before the first window
    ends. `alarms` counts the windows in which a value was more frequent than the claim allows;
    `raised` is true if the last window was one of them.
    """

    min_entropy: float = 0.0
    alarms: int = 0
    raised: bool = False


@dataclass(frozen=True, slots=True)
class SourceReport(Report):
    """The current state of one source."""

    identity: SourceIdentity
    state: SourceState
    paused: bool
    health_epoch: int
    raw_bytes: int
    tested_bytes: int
    discarded_bytes: int
    assessed_bits: int
    conditioned_bits: int
    raw_rate_bytes_per_s: float
    health_failures: int
    reconnects: int
    last_error: str
    tests: tuple[HealthTestReport, ...] = ()
    stalled: bool = False
    """Whether the device is present but silent."""
    startup_bytes: int = 0
    """The number of samples tested at start-up so far (entropy/cutoffs.py has the total)."""
    startup_left_s: float = 0.0
    """Estimated time left for the start-up tests; 0 if unknown."""
    drift: DriftReport = DriftReport()


@dataclass(frozen=True, slots=True)
class LedgerReport(Report):
    """The ledger, in bits.

    `balanced`: law 4 holds (delivered <= conditioned <= assessed) and no bits are missing.
    `combined_bits` were used up by combining sources; `in_lanes_bits` wait to be combined.
    """

    assessed_bits: int
    conditioned_bits: int
    delivered_bits: int
    discarded_bits: int
    combined_bits: int
    in_lanes_bits: int
    in_reservoir_bits: int
    drbg_bytes: int
    balanced: bool


@dataclass(frozen=True, slots=True)
class ConsumerReport(Report):
    """A consumer's account at its broker.

    Rate and quota are as configured, "" for none. `stream` is the class of a consumer's
    stream, or "". `guest` is a guest's kind and attachment, such as ``qemu, virtio``; "" for
    others.
    """

    name: str
    draws: int
    refused: int
    full_bytes: int
    drbg_bytes: int
    rate: str
    quota: str
    quota_left_bytes: int | None
    draw_class: str
    stream: str = ""
    guest: str = ""


@dataclass(frozen=True, slots=True)
class SinkReport(Report):
    """A sink's deliveries. `credited_bits` is the credit given to the kernel."""

    name: str
    deliveries: int
    delivered_bytes: int
    credited_bits: int
    reseeds: int
    last_error: str


@dataclass(frozen=True, slots=True)
class UpstreamReport(Report):
    """A remote broker; `certificate_left_s` is the validity left of ours."""

    url: str
    ready: bool
    not_ready_because: str
    certificate_left_s: float | None = None


@dataclass(frozen=True, slots=True)
class GuestReport(Report):
    """A guest of this machine.

    `waits` is why the guest gets no bytes now, or "". `fault` is why it cannot connect, or "".
    """

    name: str
    kind: str
    via: str
    connected: int
    owed_bytes: int
    consumed_bytes: int
    waits: str
    fault: str


WAIT_BOUNDS_S: Final = (0.001, 0.01, 0.1, 1.0, 10.0, 60.0)
"""`DrawsReport.waits` counts the waits up to each bound, then the longer ones."""


@dataclass(frozen=True, slots=True)
class DrawsReport(Report):
    """All draws since the start.

    `granted` has counts by class, `refused` by error name, `refused_by_class` by both, and
    `waits` by the waiting time of granted draws. `starved_s` is the time during which at least
    one draw waited.
    """

    granted: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)
    waits: tuple[int, ...] = (0,) * (len(WAIT_BOUNDS_S) + 1)
    waited_s: float = 0.0
    starved_s: float = 0.0
    refused_by_class: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    receipts_lost: int = 0
    """Draws whose receipt was not signed: their bytes are charged and lost."""


@dataclass(frozen=True, slots=True)
class CertificateReport(Report):
    """A certificate of the broker and its remaining validity."""

    name: str
    left_s: float


@dataclass(frozen=True, slots=True)
class LinkReport(Report):
    """This machine's links to remote brokers."""

    version: str
    uptime_s: float
    ready: bool
    not_ready_because: str
    draws: int
    drawn_bytes: int
    evidence: Evidence = Evidence.UNVOUCHED
    """Always this value, because a link does not see the broker's sources."""
    upstreams: tuple[UpstreamReport, ...] = ()
    notes: tuple[str, ...] = ()
    name: str = "link"


@dataclass(frozen=True, slots=True)
class FeedReport(Report):
    """The process that feeds the kernel; `at` is in seconds since 1970."""

    version: str
    at: float
    upstream: str
    last_error: str
    sink: SinkReport


@dataclass(frozen=True, slots=True)
class FleetSourceReport(Report):
    """A source of a broker in a fleet; `device` is its ID (broker/devices.py)."""

    name: str
    kind: str
    state: str
    simulated: bool = False
    device: str = ""


@dataclass(frozen=True, slots=True)
class FleetBrokerReport(Report):
    """A broker's last report to the fleet's store, written `seen_s` ago.

    `certificate` is the SHA-256 of its certificate's key. `leased_bytes` are leased from
    quotas and not spent yet. `unread_changes` counts the store's changes that the broker has
    not read.
    """

    name: str
    seen_s: float
    addresses: tuple[str, ...] = ()
    version: str = ""
    certificate: str = ""
    ready: bool = False
    not_ready_because: str = ""
    sources: tuple[FleetSourceReport, ...] = ()
    sessions: int = 0
    leases: int = 0
    leased_bytes: int = 0
    unread_changes: int = 0


@dataclass(frozen=True, slots=True)
class FleetReport(Report):
    """One broker's view of its fleet.

    `store` is the store's address without a password. `away_s` is the time since the store
    last answered; `trouble` is why it does not answer now, or "". `replication` is single,
    synchronous or asynchronous. `standby_lag_s` is None if the store does not report it.
    `role_may` lists privileges that `role`, the broker's role in `database`, should not have.
    """

    name: str
    store: str
    grace_s: float
    away_s: float = 0.0
    trouble: str = ""
    answer_s: float = 0.0
    replication: str = ""
    standbys: int = 0
    standby_lag_s: float | None = None
    clock_ahead_s: float = 0.0
    database: str = ""
    role: str = ""
    role_may: str = ""
    brokers: tuple[FleetBrokerReport, ...] = ()


@dataclass(frozen=True, slots=True)
class BrokerReport(Report):
    """The state of a broker and all its parts."""

    name: str
    version: str
    uptime_s: float
    ready: bool
    not_ready_because: str
    min_sources: int
    healthy_sources: int
    reservoir_bytes: int
    reservoir_capacity_bytes: int
    supply_bytes_per_s: float
    ledger: LedgerReport
    sources: tuple[SourceReport, ...] = ()
    devices: tuple[str, ...] = ()
    """IDs of the devices that have delivered bytes (broker/devices.py)."""
    consumers: tuple[ConsumerReport, ...] = ()
    """The busiest consumers with an account; `consumers_left_out` is the number of others."""
    consumers_left_out: int = 0
    consumers_active: int = 0
    """The number of accounts: configured consumers, guests, and others that have drawn."""
    consumers_invited: int = 0
    """The number of invited consumers that are not revoked."""
    sinks: tuple[SinkReport, ...] = ()
    doors: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    draws: DrawsReport = field(default_factory=DrawsReport)
    sessions: int = 0
    handshakes_waiting: int = 0
    certificates: tuple[CertificateReport, ...] = ()
    guests: tuple[GuestReport, ...] = ()
    events: tuple[Mapping[str, Any], ...] = ()
    """The last entries about operators in the audit log, newest first."""
    configuration: tuple[str, ...] = ()
    """Absolute paths of the loaded configuration files."""
    clock_jumped: bool = False
    audit_trouble: bool = False
    state_trouble: bool = False
    """Whether the state cannot be written: draws that count against a quota are refused."""
    signer_away: bool = False
    """Whether nothing can be signed: neither receipts nor certificates."""
    fleet: FleetReport | None = None
    """The fleet's report; None outside a fleet."""


def as_json(report: Report) -> dict[str, Any]:
    """Convert a report to plain dictionaries, lists, strings and numbers."""
    return asdict(report)  # type: ignore[call-overload, no-any-return]
