"""The layout of results: terminal width and colours for states."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final, TextIO

AUTO, ALWAYS, NEVER = "auto", "always", "never"
_GAP: Final = 2
_LEAST_COLUMN: Final = 8
_SGR: Final = {"good": "\x1b[32m", "note": "\x1b[33m", "bad": "\x1b[31m"}
_PLAIN: Final = "\x1b[0m"
SGR: Final = re.compile("|".join(map(re.escape, (*_SGR.values(), _PLAIN))))
"""The only colour sequences in use (ECMA-48, 8.3.117)."""
_LEVELS: Final = {
    **dict.fromkeys(("healthy", "ready", "verified", "+"), "good"),
    **dict.fromkeys(("off", "starting", "paused", "not checked", "-"), "note"),
    **dict.fromkeys(
        ("intermittent failure", "permanent failure", "NOT READY", "NOT VERIFIED", "revoked", "!"), "bad"
    ),
}
"""The level of each state and mark."""


@dataclass(frozen=True, slots=True)
class Style:
    """The layout: `width` in columns (None: no limit), and `colour`."""

    width: int | None = None
    colour: bool = False

    def state(self, text: str) -> str:
        """Return a state or mark in its colour."""
        return self.paint(text, _LEVELS.get(text, ""))

    def paint(self, text: str, level: str) -> str:
        """Return `text` in the colour of "good", "note" or "bad"."""
        return f"{_SGR[level]}{text}{_PLAIN}" if self.colour and level in _SGR else text

    def wrap(self, text: str, indent: str = "", taken: int = 0) -> str:
        """Wrap `text` at spaces; `indent` precedes all lines except the first.

        `taken` columns of the first line are already in use.
        """
        if self.width is None:
            return text
        import textwrap

        return textwrap.fill(
            text,
            max(self.width, 2 * _LEAST_COLUMN),
            initial_indent=" " * taken,
            subsequent_indent=indent,
            break_long_words=False,  # wording: the name of an argument
            break_on_hyphens=False,
        )[taken:]

    def marked(self, mark: str, text: str) -> str:
        """Return a finding after its one-character mark, wrapped at spaces."""
        return self.state(mark) + self.wrap(f"{mark} {text}", "  ")[1:]

    def table(self, rows: Sequence[Sequence[str]], drop: Sequence[str] = ()) -> str:
        """Lay out rows in columns; the first row is the heading.

        If the table is too wide, the columns in `drop` are omitted one by one, and a last
        line lists them. If it is still too wide, the widest cells are wrapped.
        """
        columns = [list(column) for column in zip(*rows, strict=True)]
        dropped = []
        for heading in drop:
            if self.width is None or _total(columns) <= self.width:
                break
            dropped.append(heading)
            columns = [column for column in columns if column[0] != heading]
        widths = self._widths(columns)
        lines = [line for row in zip(*columns, strict=True) for line in self._row(row, widths)]
        if dropped:
            lines.append(self.wrap(f"({', '.join(dropped).lower()}: --wide)"))
        return "\n".join(lines)

    def _widths(self, columns: Sequence[Sequence[str]]) -> list[int]:
        widths = [max(map(len, column)) for column in columns]
        over = _total(columns) - (self.width or _total(columns))
        while over > 0 and max(widths) > _LEAST_COLUMN:
            widest = widths.index(max(widths))
            cut = min(over, widths[widest] - _LEAST_COLUMN)
            widths[widest] -= cut
            over -= cut
        return widths

    def _row(self, row: Sequence[str], widths: Sequence[int]) -> list[str]:
        import textwrap

        cells = [
            textwrap.wrap(cell, width) if len(cell) > width else [cell]
            for cell, width in zip(row, widths, strict=True)
        ]
        lines = []
        for pieces in zip_longest(*cells, fillvalue=""):
            padded = [
                self.paint(piece, _LEVELS.get(cell, "")) + " " * (width - len(piece))
                for piece, cell, width in zip(pieces, row, widths, strict=True)
            ]
            lines.append((" " * _GAP).join(padded).rstrip())
        return lines


def _total(columns: Sequence[Sequence[str]]) -> int:
    return sum(max(map(len, column)) for column in columns) + _GAP * (len(columns) - 1)


PLAIN: Final = Style()


def style_for(stream: TextIO, environ: Mapping[str, str], *, wide: bool, color: str) -> Style:
    """Return the style for output on `stream`.

    A terminal's width is COLUMNS (POSIX 8.3) or its actual width; a file has no width. "auto"
    means colour on a terminal, unless NO_COLOR is set (no-color.org) or TERM is "dumb".
    """
    terminal = stream.isatty()
    wanted = terminal and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
    colour = color == ALWAYS or (color == AUTO and wanted)
    return Style(None if wide else width_of(stream, environ), colour=colour)


def width_of(stream: TextIO, environ: Mapping[str, str]) -> int | None:
    """Return the width of a terminal, or None for anything else."""
    if not stream.isatty():
        return None
    columns = environ.get("COLUMNS", "")
    if columns.isascii() and columns.isdecimal() and int(columns):
        return int(columns)
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except (OSError, ValueError):
        return None
