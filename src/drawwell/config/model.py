"""The configuration as frozen dataclasses; fields.py documents each field."""

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
from drawwell.config.fields import Section
from drawwell.config.fleet import FleetSection

DEFAULT: Final = "default"
"""The origin of a value that is not set in a file."""


class Table(NamedTuple):
    """A table of the file: its name, its attribute in `Config`, its dataclass."""

    name: str
    attribute: str
    section: type[Section]
    many: bool = False

    @property
    def header(self) -> str:
        """The header in the file."""
        return f"[[{self.name}]]" if self.many else f"[{self.name}]"

    @property
    def about(self) -> str:
        """The table's purpose: the section's docstring on one line."""
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
    Table("fleet", "fleet", FleetSection),
    Table("consumer", "consumers", ConsumerSection, many=True),
    Table("kernel", "kernel", KernelSection),
    Table("upstream", "upstreams", UpstreamSection, many=True),
    Table("links", "links", LinksSection),
    Table("sink", "sinks", SinkSection, many=True),
)


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration with its defaults.

    `files` lists the loaded files in order. `origins` maps ``broker.name``, ``source[0].path``
    or the header ``source[0]`` (counted from 0) to ``file:line`` or to "default".
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
    fleet: FleetSection
    consumers: tuple[ConsumerSection, ...]
    kernel: KernelSection
    upstreams: tuple[UpstreamSection, ...]
    links: LinksSection
    sinks: tuple[SinkSection, ...]
    files: tuple[str, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def serves(self) -> bool:
        """Whether this machine runs a broker: it has sources or accepts deposits."""
        return bool(self.sources) or self.broker.deposits

    @property
    def server_names(self) -> tuple[str, ...]:
        """The names in the broker's certificate: its own and the fleet's name."""
        names, fleet = self.tls.names, self.fleet
        if not (fleet.store and fleet.name):
            return names
        from drawwell.wire.brokers import fleet_host  # noqa: PLC0415 - start-up time

        return (*names, fleet_host(fleet.name))

    @property
    def draws_here(self) -> bool:
        """Whether the configuration directs draws to this machine's own broker."""
        return self.broker.deposits or bool(self.written_sources)

    @property
    def draws_elsewhere(self) -> bool:
        """Whether draws and the kernel feed use the brokers in [[upstream]]."""
        return bool(self.upstreams) and not self.draws_here

    @property
    def written_sources(self) -> tuple[SourceSection, ...]:
        """The configured sources, without the default source."""
        return () if self.origin("source[0]") == DEFAULT else self.sources

    @property
    def has_sinks(self) -> bool:
        """Whether this machine runs a consumer: it has a sink."""
        return self.kernel.feed or bool(self.sinks)

    @property
    def feeds_apart(self) -> bool:
        """Whether a separate process may feed the kernel: ``feed`` is not false."""
        return self.kernel.feed or self.origin("kernel.feed") == DEFAULT

    def origin(self, where: str) -> str:
        """Return the origin of the value ``table.key`` or ``table[index].key``."""
        return self.origins.get(where, DEFAULT)

    def sections(self) -> list[tuple[Table, str, Any]]:
        """Return every section with its table and path, in the order of the file."""
        found: list[tuple[Table, str, Any]] = []
        for table in TABLES:
            value = getattr(self, table.attribute)
            if table.many:
                found += [(table, f"{table.name}[{index}]", each) for index, each in enumerate(value)]
            else:
                found.append((table, table.name, value))
        return found
