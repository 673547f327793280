"""Finds the line number of each key in a TOML document.

tomllib does not report lines. It has already parsed the document, so the TOML is valid here.
"""

import re
import tomllib
from typing import Final

Path = tuple[str | int, ...]
"""Keys and list indexes from the root of the document."""

_SKIPPED: Final = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_BLANK: Final = re.compile(r"[ \t]*")
_KEY_PART: Final = r"(?:[A-Za-z0-9_-]+|\"(?:[^\"\\]|\\.)*\"|'[^']*')"
_KEY: Final = re.compile(rf"{_KEY_PART}(?:[ \t]*\.[ \t]*{_KEY_PART})*")
_STRING: Final = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}(?!")' r"|'''.*?'{3,5}(?!')" r'|"(?:[^"\\\n]|\\.)*"' r"|'[^'\n]*'", re.DOTALL
)
_SCALAR: Final = re.compile(r"[^,\]}#\n]*")


def key_lines(text: str) -> dict[Path, int]:
    """Map every key, header and list item of a valid document to its line.

    Line numbers start at 1. A table with several headers has the line of the first.
    """
    return _Scanner(text.replace("\r\n", "\n")).document()


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._counted_to = 0
        self._line = 1
        self._lists: dict[Path, int] = {}  # count of each [[header]]
        self.lines: dict[Path, int] = {}

    def document(self) -> dict[Path, int]:
        table: Path = ()
        self._match(_SKIPPED)
        while self._at < len(self._text):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)
            self._match(_SKIPPED)
        return self.lines

    def _header(self) -> Path:
        many = self._text.startswith("[[", self._at)
        self._at += 2 if many else 1
        self._match(_BLANK)
        path = self._resolve(self._key())
        if many:
            self._note(path)
            index = self._lists.get(path, -1) + 1
            self._lists[path] = index
            path = (*path, index)
        self._note(path)
        self._match(_BLANK)
        self._at += 2 if many else 1
        return path

    def _resolve(self, keys: Path) -> Path:
        """Insert list indexes into a header's path, and record its line."""
        path: Path = ()
        for key in keys[:-1]:
            path = (*path, key)
            self._note(path)
            if path in self._lists:
                path = (*path, self._lists[path])
        return (*path, keys[-1])

    def _pair(self, table: Path) -> None:
        keys = self._key()
        for length in range(1, len(keys) + 1):
            self._note((*table, *keys[:length]))
        self._match(_BLANK)
        self._at += 1  # the equals sign
        self._match(_BLANK)
        self._value((*table, *keys))

    def _value(self, path: Path) -> None:
        start = self._text[self._at : self._at + 1]
        if start == "[":
            self._items(path, "]")
        elif start == "{":
            self._items(path, "}")
        elif start in {'"', "'"}:
            self._match(_STRING)
        else:
            self._match(_SCALAR)

    def _items(self, path: Path, end: str) -> None:
        """Scan a list, or the pairs of an inline table."""
        self._at += 1
        self._match(_SKIPPED)
        index = 0
        while self._text[self._at : self._at + 1] not in {end, ""}:
            if end == "]":
                self._note((*path, index))
                self._value((*path, index))
                index += 1
            else:
                self._pair(path)
            self._match(_SKIPPED)
            if self._text[self._at : self._at + 1] == ",":
                self._at += 1
                self._match(_SKIPPED)
        self._at += 1

    def _key(self) -> Path:
        written = self._match(_KEY)
        path: list[str | int] = []
        node = tomllib.loads(f"{written} = 0")  # decodes quotes and escapes
        while isinstance(node, dict):
            ((key, node),) = node.items()
            path.append(key)
        return tuple(path)

    def _match(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        found = match[0] if match else ""
        self._at += len(found)
        return found

    def _note(self, path: Path) -> None:
        self._line += self._text.count("\n", self._counted_to, self._at)
        self._counted_to = self._at
        self.lines.setdefault(path, self._line)
