"""Which files make the configuration, and what stands in them, before anything is understood."""

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
"""A configuration larger than this is some other file."""
_AT_LINE: Final = re.compile(r"\s*\(at line (\d+), column \d+\)")
_AT_END: Final = re.compile(r"\s*\(at end of document\)")


class Origin(NamedTuple):
    """A place in a file; line 0 is the file as a whole."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


class ConfigFault(NamedTuple):
    """One thing that is wrong, and where."""

    origin: Origin
    message: str

    def __str__(self) -> str:
        return f"{self.origin}: {self.message}"


@dataclass(frozen=True, slots=True)
class Document:
    """One file as tomllib reads it, and the lines of its keys."""

    file: str
    tables: dict[str, Any]
    lines: dict[Path, int]

    def origin(self, *path: str | int) -> Origin:
        """Where `path` stands, or the nearest table around it."""
        names = tuple(part for part in path if isinstance(part, str))
        for candidate in (path, names, path[:-1], names[:-1], path[:1]):
            if candidate in self.lines:
                return Origin(self.file, self.lines[candidate])
        return Origin(self.file, 0)


def configuration_files(path: str | None, directory: str) -> Iterator[str]:
    """The file given, or drawwell.toml of `directory` where there is one and then its conf.d/*.toml by name."""
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
    """Read one file; None when it cannot be understood at all.

    Raises:
        PermissionRefused: this user may not read it.
    """
    try:
        data, faults = _read(file)
        text = data.decode()
        return Document(file, tomllib.loads(text), key_lines(text)), faults
    except PermissionError:
        raise PermissionRefused(
            f"{file} cannot be read by this user",
            hint="Run the command as root, or as a user who may read the configuration.",
        ) from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return None, [ConfigFault(Origin(file, line), "this is not UTF-8 text")]
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
        raise OSError(0, "larger than any configuration")
    try:
        require_ours(file)
    except PermissionRefused as error:
        return data, [ConfigFault(Origin(file, 0), f"{error}: {error.hint}")]
    return data, []


def _syntax_fault(file: str, message: str, data: bytes) -> ConfigFault:
    """Turn what tomllib says into our words: line in front, lower case."""
    line = 0
    if at := _AT_LINE.search(message):
        line = int(at[1])
    elif _AT_END.search(message):
        line = data.rstrip().count(b"\n") + 1
    words = _AT_END.sub("", _AT_LINE.sub("", message)).splitlines()[0].rstrip(".")
    return ConfigFault(Origin(file, line), f"not TOML: {words[:1].lower()}{words[1:200]}")
