"""Renders the sample file and the current configuration."""

import textwrap
import tomllib
from collections.abc import Iterator
from typing import Any, Final

from drawwell.config.broker_side import SourceSection
from drawwell.config.drivers import ONLY_FOR
from drawwell.config.fields import Setting, settings
from drawwell.config.model import TABLES, Config, Table
from drawwell.config.values import Listen, LocalListen

_WIDTH: Final = 100
_SAMPLE_HEAD: Final = """\
# drawwell.toml: all settings
#
# No setting is required. Without this file, drawwell uses the first OneRNG that it finds.
# To change a setting, remove the # from its line and from the line of its [table]. Each line
# shows the default, or an example if the default depends on the machine.
#
# Store this file as /etc/drawwell/drawwell.toml. drawwell reads it first, then the files
# /etc/drawwell/conf.d/*.toml in order of their names. A later value wins, and [[tables]]
# accumulate. To list all faults, run 'drawwell config check'. To reload, send SIGHUP.
"""


def written(setting: Setting, value: Any) -> str:
    """Return a value as TOML, or "" if it is not set."""
    if value in (None, "", ()) and not isinstance(setting.kind, Listen | LocalListen):
        return ""
    return setting.kind.write(value)


def applicable(section: Any) -> tuple[Setting, ...]:
    """Return a section's settings; for a source, only those of its driver."""
    return tuple(
        each
        for each in settings(type(section))
        if not isinstance(section, SourceSection)
        or section.driver in ONLY_FOR.get(each.key, (section.driver,))
    )


def shown(config: Config, *, origin: bool = False) -> str:
    """Return the configuration as a file; with `origin`, add each origin."""
    return "\n".join(_shown_lines(config, with_origin=origin))


def _shown_lines(config: Config, *, with_origin: bool) -> Iterator[str]:
    for index, (table, where, section) in enumerate(config.sections()):
        if index:
            yield ""
        yield _with_origin(table.header, config.origin(where) if with_origin and table.many else "")
        for each in applicable(section):
            value = written(each, getattr(section, each.attribute))
            line = f"{each.key} = {value}" if value else f"# {each.key} is not set"
            yield _with_origin(line, config.origin(f"{where}.{each.key}") if with_origin and value else "")


def _with_origin(line: str, origin: str) -> str:
    return f"{line:<40}  # {origin}" if origin else line


def as_document(config: Config, *, origin: bool = False) -> dict[str, Any]:
    """Return the configuration for JSON; an unset value is None."""
    document: dict[str, Any] = {table.name: [] for table in TABLES if table.many}
    for table, where, section in config.sections():
        values: dict[str, Any] = {}
        for each in applicable(section):
            value = written(each, getattr(section, each.attribute))
            plain = tomllib.loads(f"value = {value}")["value"] if value else None
            place = f"{where}.{each.key}"
            values[each.key] = {"value": plain, "origin": config.origin(place)} if origin else plain
        if table.many:
            document[table.name].append(values)
        else:
            document[table.name] = values
    return document


def sample() -> str:
    """Return the sample file. Lines to uncomment have no space after the #."""
    return "\n\n".join([_SAMPLE_HEAD.rstrip(), *(_sample_table(table) for table in TABLES)]) + "\n"


def _sample_table(table: Table) -> str:
    rule = "#" * _WIDTH
    blocks = [f"{rule}\n{_comment(table.about)}\n#{table.header}"]
    blocks += [_sample_setting(each) for each in settings(table.section)]
    return "\n\n".join(blocks)


def _sample_setting(each: Setting) -> str:
    return "\n".join(
        [
            _comment(each.what),
            _comment(f"Why: {each.why}"),
            _comment(f"Default: {each.default_is}. Range: {each.range}."),
            _comment(f"Example: {each.key} = {each.example}"),
            f"#{each.key} = {each.sample}",
        ]
    )


def _comment(text: str) -> str:
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent="# ",
        subsequent_indent="#   ",
        break_long_words=False,  # wording: textwrap's name
    )
