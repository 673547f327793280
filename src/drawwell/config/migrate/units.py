"""Migrates rngd's command line in a systemd unit (systemd.service(5))."""

import re
import shlex
from collections.abc import Iterator
from typing import Final

from drawwell.config.migrate.rngd import KindOf, answer_options
from drawwell.config.migrate.settings import FEED, ONERNG, Assignment, Migration

_PREFIXES: Final = "@-:+!|"
_VARIABLE: Final = re.compile(r"\$\{?(\w+)\}?")
_OURS: Final = "this configures the old unit; drawwell has its own units"


def is_unit(text: str) -> bool:
    """Return whether the text is a service unit: it has a [Service] section."""
    return any(line.strip() == "[Service]" for line in text.splitlines())


def from_unit(file: str, text: str, migration: Migration, kind_of: KindOf) -> None:
    """Migrate a unit that starts rngd or the vendor's script."""
    variables: dict[str, str] = {}
    for at in _settings(text):
        if at.name == "ExecStart":
            _command(file, at, migration, kind_of, variables)
        elif at.name == "Environment":
            variables |= dict(_split(each) for each in _tokens(at.value))
            migration.drop(file, at, "the variables are inserted into the command line")
        elif at.name == "EnvironmentFile":
            migration.drop(file, at, f"migrate that file as well: 'drawwell migrate {at.value.lstrip('-')}'")
        else:
            migration.drop(file, at, _OURS)


def _command(
    file: str, at: Assignment, migration: Migration, kind_of: KindOf, variables: dict[str, str]
) -> None:
    program, *arguments = _tokens(at.value.lstrip(_PREFIXES)) or [""]
    name = program.rpartition("/")[2]
    if not program:
        migration.drop(file, at, "this clears the previous commands")
    elif name == "onerng.sh":
        migration.keep(file, at, *ONERNG, FEED)
    elif name == "rngd":
        migration.keep(file, at._replace(value=program), FEED)
        line = _VARIABLE.sub(
            lambda found: variables.get(found[1], ""), shlex.join(arguments).replace("'", "")
        )
        answer_options(file, at._replace(value=line), migration, kind_of)
    else:
        migration.wonder(file, at, "this command starts neither rngd nor the vendor's script")


def _settings(text: str) -> Iterator[Assignment]:
    """Yield the settings of all sections, with continuation lines joined."""
    whole, begun = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        begun = begun or number
        whole += line.removesuffix("\\")
        if line.endswith("\\"):
            continue
        name, equals, value = whole.strip().partition("=")
        if equals and name[:1] not in {"#", ";"}:
            yield Assignment(begun, name.strip(), value.strip())
        whole, begun = "", 0


def _tokens(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:
        return line.split()


def _split(assignment: str) -> tuple[str, str]:
    name, _, value = assignment.partition("=")
    return name, value
