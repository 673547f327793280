"""Frozen snapshots, one set for all renderers (law 12). The engine fills them and formats nothing.

Field names are the JSON names. Sizes are bytes, entropy is bits, times are seconds.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final


class Report:
    """Anything `as_json` takes."""

    __slots__ = ()


class SourceState(StrEnum):
    """States of a source; the moves between them stand in entropy/health.py."""

    OFF = "off"
    STARTING = "starting"
    HEALTHY = "healthy"
    INTERMITTENT_FAILURE = "intermittent failure"
    PERMANENT_FAILURE = "permanent failure"


class Firmware(StrEnum):
    """Verdict on a firmware image; three outcomes, never confused, and one for devices that have none to show."""

    VERIFIED = "image signature verified, as reported by the device"
    NOT_VERIFIED = "not verified"
    COULD_NOT_CHECK = "could not check"
    NOT_APPLICABLE = "no firmware to verify"


class Evidence(StrEnum):
    """What vouches for bytes, the strongest first; what each is credited stands in entropy/credit.py."""

    DEVICE = "noise device"
    UNVOUCHED = "unvouched"
    """They came through a FIFO, a program, a link, a host's virtual device: what was done to them is not known."""
    NO_NOISE = "no noise"
    """They are simulated, replayed, or a generator's."""


RAW_NOISE: Final = "raw noise"
CONDITIONED: Final = "after the maker's conditioning"


@dataclass(frozen=True, slots=True)
class SourceIdentity(Report):
    """Who a source is.

    `kind` is the driver's name; `path` the device node; `stable_name` is the same under every
    name of the node: the USB path, else the numbers of the device or file, or a digest of the command.
    `firmware_detail` names key, hash and version. `noise` says what is tested: "raw noise", "after the maker's
    conditioning", or "not a noise source".
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
    """The device's own 128-bit ID where it has one (V3 OneRNG), 32 hexadecimal digits."""

    def is_same_device(self, other: "SourceIdentity") -> bool:
        """Return whether two names stand for one device."""
        same_id = bool(self.hardware_id) and self.hardware_id == other.hardware_id
        return same_id or (self.stable_name or self.path) == (other.stable_name or other.path)


@dataclass(frozen=True, slots=True)
class HealthTestReport(Report):
    """One health test: its cutoffs, how near the worst count came, how often it fired."""

    name: str
    unit: str
    min_entropy: float
    window: int
    cutoff_intermittent: int
    cutoff_permanent: int
    worst_count: int
    failures: int
    recent_count: int = 0
    """The worst of the last minute that ended and of the present one."""


@dataclass(frozen=True, slots=True)
class DriftReport(Report):
    """What counts of values show (entropy/most_common.py).

    `min_entropy` is the estimate of the last window in bits a sample, 0 before the first one ended.
    `alarms` counts the windows with a value more frequent than the claim allows; `raised`: the last
    one had such a value.
    """

    min_entropy: float = 0.0
    alarms: int = 0
    raised: bool = False


@dataclass(frozen=True, slots=True)
class SourceReport(Report):
    """One source as it is now."""

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
    """It is there and silent."""
    startup_bytes: int = 0
    """How many samples of the start-up tests are in (entropy/cutoffs.py has how many it takes)."""
    startup_left_s: float = 0.0
    """How long they still take at this rate, as an estimate; 0 while it is not known."""
    drift: DriftReport = DriftReport()


@dataclass(frozen=True, slots=True)
class LedgerReport(Report):
    """The account, in bits. `balanced` is law 4: delivered <= conditioned <= assessed, and nothing is lost.

    `combined_bits` were used up where outputs of several sources became one; `in_lanes_bits` wait for that.
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
    """One consumer as its broker sees it. Rates and quotas as written in the configuration, "" for none.

    `stream` is the class of the stream that it is served without asking, "" for none; `guest` is what runs it and its
    way in, such as ``qemu, virtio``, "" for what is no guest of this machine.
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
    """What a sink got. `credited_bits` is what the kernel was told to believe."""

    name: str
    deliveries: int
    delivered_bytes: int
    credited_bits: int
    reseeds: int
    last_error: str


@dataclass(frozen=True, slots=True)
class UpstreamReport(Report):
    """One broker elsewhere. `certificate_left_s`: how long ours is valid, None where we show it none."""

    url: str
    ready: bool
    not_ready_because: str
    certificate_left_s: float | None = None


@dataclass(frozen=True, slots=True)
class GuestReport(Report):
    """A guest of this machine.

    `waits` is why it gets nothing now, "" if it does; `fault` is why it cannot connect.
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
"""Upper bounds of the counts in `DrawsReport.waits`; one more count has what waited longer."""


@dataclass(frozen=True, slots=True)
class DrawsReport(Report):
    """All draws since the start.

    `granted` is by class, `refused` by the error's name; `waits` counts granted draws by how
    long they waited. `starved_s` is the time during which at least one draw waited.
    """

    granted: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)
    waits: tuple[int, ...] = (0,) * (len(WAIT_BOUNDS_S) + 1)
    waited_s: float = 0.0
    starved_s: float = 0.0


@dataclass(frozen=True, slots=True)
class CertificateReport(Report):
    """A certificate of the broker, and how long it is still valid."""

    name: str
    left_s: float


@dataclass(frozen=True, slots=True)
class LinkReport(Report):
    """The process that holds the links to brokers elsewhere, for this machine."""

    version: str
    uptime_s: float
    ready: bool
    not_ready_because: str
    draws: int
    drawn_bytes: int
    evidence: Evidence = Evidence.UNVOUCHED
    """Always this: a link does not see the sources behind it."""
    upstreams: tuple[UpstreamReport, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FeedReport(Report):
    """The process that feeds the kernel. `at` is when it said so, in seconds since 1970."""

    version: str
    at: float
    upstream: str
    last_error: str
    sink: SinkReport


@dataclass(frozen=True, slots=True)
class BrokerReport(Report):
    """The broker and everything behind it."""

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
    consumers: tuple[ConsumerReport, ...] = ()
    """The busiest of those with an account; `consumers_left_out` is how many others there are."""
    consumers_left_out: int = 0
    consumers_active: int = 0
    """How many have an account: the configuration's, the guests, and others that drew since the start."""
    consumers_invited: int = 0
    """How many were invited and are not revoked."""
    sinks: tuple[SinkReport, ...] = ()
    doors: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    draws: DrawsReport = field(default_factory=DrawsReport)
    sessions: int = 0
    handshakes_waiting: int = 0
    certificates: tuple[CertificateReport, ...] = ()
    guests: tuple[GuestReport, ...] = ()
    events: tuple[Mapping[str, Any], ...] = ()
    """The last lines of the operators' audit log, the newest first."""
    clock_jumped: bool = False
    audit_trouble: bool = False


def as_json(report: Report) -> dict[str, Any]:
    """Turn a report into plain dictionaries, lists, strings and numbers."""
    return asdict(report)  # type: ignore[call-overload, no-any-return]
