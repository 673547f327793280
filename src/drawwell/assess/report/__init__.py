"""All results of an assessment, for JSON and for the HTML page."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from drawwell.assess.ais31 import Ais31Result
from drawwell.assess.health_run import HealthRun, Margin
from drawwell.assess.iid import IidResult
from drawwell.assess.report.findings import ReportFinding
from drawwell.assess.report.picture import Picture
from drawwell.assess.restart import RestartResult
from drawwell.assess.results import NonIidResult
from drawwell.reports import Report, SourceIdentity


@dataclass(frozen=True, slots=True)
class Subject(Report):
    """The assessed data.

    `sha256` is the hash of the samples, one per byte. `identity` is None for a file.
    `configuration` and `versions` are text for readers. `assessed_at` is a date and time.
    """

    name: str
    sha256: str
    samples: int
    assessed_at: str
    identity: SourceIdentity | None = None
    configuration: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Assessment(Report):
    """One assessment; `claim` is in bits per byte, or None without a claim."""

    subject: Subject
    claim: float | None
    non_iid: NonIidResult
    iid: IidResult | None
    restart: RestartResult | None
    ais31: Ais31Result | None
    health: HealthRun | None
    margins: tuple[Margin, ...]
    picture: Picture
    findings: tuple[ReportFinding, ...]
