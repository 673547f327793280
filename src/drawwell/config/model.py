"""The configuration as frozen dataclasses. What each setting means stands at its field (fields.py)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from drawwell.config.broker_side import AuditSection, BrokerSection, ConsumerSection, SourceSection
from drawwell.config.consumer_side import KernelSection, LinksSection, SinkSection, UpstreamSection
from drawwell.config.doors import (
    ControlSection,
    EgdSection,
    EnrolSection,
    HealthSection,
    HttpSection,
    PkiSection,
    SignerSection,
    SshSection,
    TlsSection,
    UnixSection,
)

DEFAULT: Final = "default"
"""The origin of a value that nobody wrote."""


class Table(NamedTuple):
    """One table of the file: its name there, the attribute of `Config`, and its dataclass."""

    name: str
    attribute: str
    section: type[Any]
    many: bool = False

    @property
    def header(self) -> str:
        """The header as the file has it."""
        return f"[[{self.name}]]" if self.many else f"[{self.name}]"

    @property
    def about(self) -> str:
        """What it is for: the section's docstring on one line."""
        return " ".join((self.section.__doc__ or "").split())


TABLES: Final = (
    Table("broker", "broker", BrokerSection),
    Table("source", "sources", SourceSection, many=True),
    Table("unix", "unix", UnixSection),
    Table("control", "control", ControlSection),
    Table("health", "health", HealthSection),
    Table("http", "http", HttpSection),
    Table("egd", "egds", EgdSection, many=True),
    Table("tls", "tls", TlsSection),
    Table("enrol", "enrol", EnrolSection),
    Table("pki", "pki", PkiSection),
    Table("signer", "signer", SignerSection),
    Table("ssh", "ssh", SshSection),
    Table("audit", "audit", AuditSection),
    Table("consumer", "consumers", ConsumerSection, many=True),
    Table("kernel", "kernel", KernelSection),
    Table("upstream", "upstreams", UpstreamSection, many=True),
    Table("links", "links", LinksSection),
    Table("sink", "sinks", SinkSection, many=True),
)


@dataclass(frozen=True, slots=True)
class Config:
    """Everything an operator can set, complete: what was not written holds its default.

    `files` are the files read, in order. `origins` maps ``broker.name`` or ``source[0].path`` (counted from 0,
    and ``source[0]`` for its header) to ``file:line`` or to "default".
    """

    broker: BrokerSection
    sources: tuple[SourceSection, ...]
    unix: UnixSection
    control: ControlSection
    health: HealthSection
    http: HttpSection
    egds: tuple[EgdSection, ...]
    tls: TlsSection
    enrol: EnrolSection
    pki: PkiSection
    signer: SignerSection
    ssh: SshSection
    audit: AuditSection
    consumers: tuple[ConsumerSection, ...]
    kernel: KernelSection
    upstreams: tuple[UpstreamSection, ...]
    links: LinksSection
    sinks: tuple[SinkSection, ...]
    files: tuple[str, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def serves(self) -> bool:
        """Does this machine run a broker (it has sources, or takes deposits)?"""
        return bool(self.sources) or self.broker.deposits

    @property
    def draws_here(self) -> bool:
        """Is this machine's own broker the one to draw from, by what was written down?"""
        return self.broker.deposits or bool(self.written_sources)

    @property
    def draws_elsewhere(self) -> bool:
        """Do draws of this machine, and its kernel's, go to the brokers of [[upstream]]?"""
        return bool(self.upstreams) and not self.draws_here

    @property
    def written_sources(self) -> tuple[SourceSection, ...]:
        """The sources that somebody wrote down: not the one that is taken where nobody did."""
        return () if self.origin("source[0]") == DEFAULT else self.sources

    @property
    def pours(self) -> bool:
        """Does this machine run a consumer (it has something to pour into)?"""
        return self.kernel.feed or bool(self.sinks)

    @property
    def feeds_apart(self) -> bool:
        """May a process of its own feed the kernel? To start one says so, unless ``feed = false`` stands here."""
        return self.kernel.feed or self.origin("kernel.feed") == DEFAULT

    def origin(self, where: str) -> str:
        """Where the value at ``table.key`` or ``table[index].key`` comes from."""
        return self.origins.get(where, DEFAULT)

    def sections(self) -> list[tuple[Table, str, Any]]:
        """Every section with its table and its place in `origins`, in the order of the file."""
        found: list[tuple[Table, str, Any]] = []
        for table in TABLES:
            value = getattr(self, table.attribute)
            if table.many:
                found += [(table, f"{table.name}[{index}]", each) for index, each in enumerate(value)]
            else:
                found.append((table, table.name, value))
        return found
