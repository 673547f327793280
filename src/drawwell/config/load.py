"""Builds `Config` from TOML files and reports every fault at once."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from drawwell.config.defaults import HostFacts, complete
from drawwell.config.fields import Setting, settings
from drawwell.config.files import ConfigFault, Document, Origin, configuration_files, read_document
from drawwell.config.model import TABLES, Config, Table
from drawwell.config.validation import broken_rules
from drawwell.errors import ConfigError

DIRECTORY: Final = "/etc/drawwell"


def load(path: str | None = None, *, directory: str = DIRECTORY, machine: HostFacts | None = None) -> Config:
    """Read the configuration.

    Args:
        path: The only file to read. None means the file in $DRAWWELL_CONFIG or, if that is not
            set, drawwell.toml and then conf.d/*.toml in `directory`. Later values win.
        directory: The directory of the files.
        machine: Facts for the defaults; None means the facts of this machine.

    Raises:
        ConfigError: the configuration has faults; the error lists all of them.
        PermissionRefused: this user may not read a file.
    """
    machine = machine or HostFacts.here()
    loader = _Loader()
    files = tuple(configuration_files(path or machine.environ.get("DRAWWELL_CONFIG"), directory))
    for file in files:
        document, faults = read_document(file)
        loader.faults += faults
        if document is not None:
            loader.add(document)
    config = loader.build(files, machine)
    if loader.faults:
        raise _error(loader.faults, files)
    return config


def _error(faults: Iterable[ConfigFault], files: tuple[str, ...]) -> ConfigError:
    ordered = sorted(faults, key=lambda fault: (_rank(files, fault.origin.file), fault.origin.line))
    count = "1 fault" if len(ordered) == 1 else f"{len(ordered)} faults"
    return ConfigError(
        f"the configuration has {count}",
        faults=tuple(map(str, ordered)),
        hint="See drawwell.toml(5) or 'drawwell config sample' for every setting.",
    )


def _rank(files: tuple[str, ...], file: str) -> int:
    return files.index(file) if file in files else len(files)


@dataclass(slots=True)
class _Written:
    """A section as written: its values, their origins and the header's origin."""

    origin: Origin | None = None
    values: dict[str, tuple[object, Origin]] = field(default_factory=dict)


class _Loader:
    def __init__(self) -> None:
        self.faults: list[ConfigFault] = []
        self._faulty: set[str] = set()  # places that already have a fault
        self._origins: dict[str, Origin] = {}
        self._written: dict[str, list[_Written]] = {
            table.name: [] if table.many else [_Written()] for table in TABLES
        }

    # ---- parsing ---------------------------------------------------------------------------

    def add(self, document: Document) -> None:
        """Merge a document; its values override earlier ones."""
        for name, value in document.tables.items():
            table = next((each for each in TABLES if each.name == name), None)
            if table is None:
                self._unknown_table(name, value, document.origin(name))
            elif table.many:
                self._add_many(table, value, document)
            else:
                self._add_single(table, value, document)

    def _unknown_table(self, name: str, value: object, origin: Origin) -> None:
        nearest = _nearest(name, [table.name for table in TABLES])
        header = next((table.header for table in TABLES if table.name == nearest), "")
        what = "table" if isinstance(value, dict | list) else "key outside any table"
        self.faults.append(
            ConfigFault(origin, f"unknown {what} '{name}'" + (f"; did you mean {header}?" if nearest else ""))
        )
        self._faulty.add(nearest)

    def _add_many(self, table: Table, value: object, document: Document) -> None:
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            origin = document.origin(table.name)
            self.faults.append(ConfigFault(origin, f"{table.name} is a list of tables: write {table.header}"))
            value = [value] if isinstance(value, dict) else []
            self._faulty.add(table.name)
        for index, each in enumerate(value):
            written = _Written(document.origin(table.name, index))
            _put(written, each, document, (table.name, index))
            self._written[table.name].append(written)

    def _add_single(self, table: Table, value: object, document: Document) -> None:
        origin = document.origin(table.name)
        if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
            self.faults.append(ConfigFault(origin, f"{table.name} is a single table: write {table.header}"))
            _put(self._written[table.name][0], value[0], document, (table.name, 0))
        elif isinstance(value, dict):
            _put(self._written[table.name][0], value, document, (table.name,))
        else:
            self.faults.append(ConfigFault(origin, f"{table.name} is a table: write {table.header}"))
        self._written[table.name][0].origin = origin

    # ---- interpretation --------------------------------------------------------------------

    def build(self, files: tuple[str, ...], machine: HostFacts) -> Config:
        """Build the sections, fill in the defaults and check the rules."""
        sections: dict[str, Any] = {}
        for table in TABLES:
            written = self._written[table.name]
            if table.many:
                named = [(f"{table.name}[{index}]", each) for index, each in enumerate(written)]
                sections[table.attribute] = tuple(self._section(table, where, each) for where, each in named)
            else:
                sections[table.attribute] = self._section(table, table.name, written[0])
        origins = {place: str(origin) for place, origin in self._origins.items()}
        config = complete(Config(**sections, files=files, origins=origins), machine)
        self._check_rules(config)
        return config

    def _section(self, table: Table, where: str, written: _Written) -> Any:
        known = {each.key: each for each in settings(table.section)}
        if written.origin:
            self._origins[where] = written.origin
        values: dict[str, Any] = {}
        for key, (value, origin) in written.values.items():
            place = f"{where}.{key}"
            self._origins[place] = origin
            if key not in known:
                self._unknown_key(table, where, key, known, origin)
                continue
            try:
                values[known[key].attribute] = known[key].kind.parse(value)
            except ValueError as error:
                self._fault(place, origin, f"{table.header} {key}: {error}")
        self._check_required(table, where, written, known)
        return table.section(**values)

    def _unknown_key(
        self, table: Table, where: str, key: str, known: Mapping[str, Setting], origin: Origin
    ) -> None:
        nearest = _nearest(key, list(known))
        mean = f"; did you mean '{nearest}'?" if nearest else ""
        self._fault(f"{where}.{nearest}", origin, f"{table.header} unknown key '{key}'{mean}")

    def _check_required(
        self, table: Table, where: str, written: _Written, known: Mapping[str, Setting]
    ) -> None:
        for key, each in known.items():
            place = f"{where}.{key}"
            if each.required and key not in written.values and place not in self._faulty:
                origin = written.origin or Origin("configuration", 0)
                self._fault(place, origin, f"{table.header} {key}: is required")

    def _check_rules(self, config: Config) -> None:
        for finding in broken_rules(config):
            if self._faulty.isdisjoint(finding.places):
                place = finding.places[0]
                where, _dot, key = place.partition(".")
                origin = self._origins.get(place) or self._nearest_origin(finding.places)
                header = next(table.header for table in TABLES if table.name == where.partition("[")[0])
                self._fault(place, origin, f"{header} {key}: {finding.message}")

    def _nearest_origin(self, places: tuple[str, ...]) -> Origin:
        """Return the origin of the faulty setting, or of a conflicting setting."""
        for place in (places[0].partition(".")[0], *places[1:]):
            if place in self._origins:
                return self._origins[place]
        return Origin("configuration", 0)

    def _fault(self, place: str, origin: Origin, message: str) -> None:
        self.faults.append(ConfigFault(origin, message))
        self._faulty.add(place)


def _put(
    written: _Written, values: Mapping[str, object], document: Document, path: tuple[str | int, ...]
) -> None:
    for key, value in values.items():
        written.values[key] = (value, document.origin(*path, key))


def _nearest(name: str, names: list[str]) -> str:
    import difflib  # noqa: PLC0415 - start-up time: only a fault needs it

    return next(iter(difflib.get_close_matches(name.lower(), names, 1)), "")
