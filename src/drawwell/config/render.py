"""The configuration as text: the sample file out of the model, and settings as they are now."""

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
# drawwell.toml: every setting there is.
#
# Nothing here needs to be set: without this file the first OneRNG found serves this machine. To change a
# setting, take the # away from its line and from the line of its [table]. Where a default is not found out
# by the program itself, it stands in the line; otherwise the line holds an example.
#
# This file goes to /etc/drawwell/drawwell.toml. Files in /etc/drawwell/conf.d whose names end in .toml are read
# after it in the order of their names: a later value wins, and [[lists]] of tables add up.
# 'drawwell config check' reports every fault at once; SIGHUP makes a running drawwell read it again.
"""


def written(setting: Setting, value: Any) -> str:
    """A value as TOML, "" when it is not set."""
    if value in (None, "", ()) and not isinstance(setting.kind, Listen | LocalListen):
        return ""
    return setting.kind.write(value)


def applicable(section: Any) -> tuple[Setting, ...]:
    """The settings that mean something to this section (a source's driver knows only some)."""
    return tuple(
        each
        for each in settings(type(section))
        if not isinstance(section, SourceSection)
        or section.driver in ONLY_FOR.get(each.key, (section.driver,))
    )


def shown(config: Config, *, origin: bool = False) -> str:
    """The whole configuration as a file that reads back as the same; with `origin`, where each value is from."""
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
    """The whole configuration for JSON, each value as the file would have it, None when it is not set."""
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
    """The commented sample file. Lines that may be taken as they are begin with # and no blank."""
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


def _comment(words: str) -> str:
    return textwrap.fill(words, _WIDTH, initial_indent="# ", subsequent_indent="#   ", break_long_words=False)
