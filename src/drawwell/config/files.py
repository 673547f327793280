"""Finds and parses the configuration files, without interpreting them."""

import os
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from drawwell.config.toml_lines import Path, key_lines
from drawwell.errors import PermissionRefused
from drawwell.ownership import require_ours

MAX_BYTES: Final = 2**20
"""The size limit of a configuration file."""
_AT_LINE: Final = re.compile(r"\s*\(at line (\d+), column \d+\)")
_AT_END: Final = re.compile(r"\s*\(at end of document\)")


class Origin(NamedTuple):
    """A place in a file; line 0 means the whole file."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


class ConfigFault(NamedTuple):
    """One error and its place."""

    origin: Origin
    message: str

    def __str__(self) -> str:
        return f"{self.origin}: {self.message}"


@dataclass(frozen=True, slots=True)
class Document:
    """A file as parsed by tomllib, with the line numbers of its keys."""

    file: str
    tables: dict[str, Any]
    lines: dict[Path, int]

    def origin(self, *path: str | int) -> Origin:
        """Return the origin of `path`, or of the nearest enclosing table."""
        names = tuple(part for part in path if isinstance(part, str))
        for candidate in (path, names, path[:-1], names[:-1], path[:1]):
            if candidate in self.lines:
                return Origin(self.file, self.lines[candidate])
        return Origin(self.file, 0)


def configuration_files(path: str | None, directory: str) -> Iterator[str]:
    """Yield the given file, or drawwell.toml and conf.d/*.toml in `directory`."""
    if path:
        yield path
        return
    main = os.path.join(directory, "drawwell.toml")
    if os.path.exists(main):
        yield main
    parts = os.path.join(directory, "conf.d")
    if os.path.isdir(parts):
        yield from (os.path.join(parts, name) for name in sorted(os.listdir(parts)) if name.endswith(".toml"))


def read_document(file: str) -> tuple[Document | None, list[ConfigFault]]:
    """Read one file; return None if it cannot be parsed.

    Raises:
        PermissionRefused: this user may not read the file.
    """
    try:
        data, faults = _read(file)
        text = data.decode()
        return Document(file, tomllib.loads(text), key_lines(text)), faults
    except PermissionError:
        raise PermissionRefused(
            f"cannot read {file}: permission denied",
            hint="Run the command as root, or as a user who may read the configuration.",
        ) from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return None, [ConfigFault(Origin(file, line), "the file is not UTF-8 text")]
    except RecursionError:
        return None, [ConfigFault(Origin(file, 0), "lists or tables are nested too deeply")]
    except ValueError as error:
        return None, [_syntax_fault(file, str(error), data)]
    except OSError as error:
        return None, [ConfigFault(Origin(file, 0), f"cannot be read: {(error.strerror or 'error').lower()}")]


def _read(file: str) -> tuple[bytes, list[ConfigFault]]:
    with open(file, "rb") as opened:
        data = opened.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise OSError(0, "the file is larger than 1 MiB")
    try:
        require_ours(file)
    except PermissionRefused as error:
        return data, [ConfigFault(Origin(file, 0), f"{error}: {error.hint}")]
    return data, []


def _syntax_fault(file: str, message: str, data: bytes) -> ConfigFault:
    """Convert tomllib's message to a fault with the line number."""
    line = 0
    if at := _AT_LINE.search(message):
        line = int(at[1])
    elif _AT_END.search(message):
        line = data.rstrip().count(b"\n") + 1
    message_text = _AT_END.sub("", _AT_LINE.sub("", message)).splitlines()[0].rstrip(".")
    return ConfigFault(Origin(file, line), f"invalid TOML: {message_text[:1].lower()}{message_text[1:200]}")
