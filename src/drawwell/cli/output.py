"""Rules of output, in one place.

- Results go to standard output, words to standard error with the prefix ``drawwell:``.
- With ``--json`` the result is exactly one JSON document, and an error is one too, on standard error.
- Bytes go to a terminal only when asked for (``--hex``, ``--force``).
- Progress is drawn on a terminal only, and erased afterwards. Colour only there, and not with NO_COLOR.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from drawwell.errors import ConfigError, DrawwellError, Refused, UsageError
from drawwell.units import format_duration


class Output:
    """Where a verb's results and words go."""

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self._progress_shown = False

    @property
    def live(self) -> bool:
        """Is standard error a terminal that may be drawn upon?"""
        return sys.stderr.isatty() and not self.quiet and os.environ.get("TERM") != "dumb"

    def result(self, document: Mapping[str, Any] | Sequence[Any], text: str) -> None:
        """Print a result: `document` with ``--json``, `text` otherwise."""
        self.clear_progress()
        print(json.dumps(document, indent=2) if self.as_json else text, flush=True)

    def say(self, words: str) -> None:
        """Tell the operator something that is not the result."""
        if not self.quiet:
            self.clear_progress()
            print(f"drawwell: {words}", file=sys.stderr, flush=True)

    def progress(self, words: str) -> None:
        """Redraw the progress line, on a terminal only."""
        if self.live:
            print(f"\r\x1b[K{words}", end="", file=sys.stderr, flush=True)
            self._progress_shown = True

    def clear_progress(self) -> None:
        """Erase the progress line."""
        if self._progress_shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._progress_shown = False

    def error(self, error: DrawwellError) -> int:
        """Print an error with its hint; return its exit code."""
        self.clear_progress()
        if self.as_json:
            print(json.dumps(error_document(error)), file=sys.stderr)
            return error.exit_code
        print(f"drawwell: {error}", file=sys.stderr)
        for fault in error.faults if isinstance(error, ConfigError) else ():
            print(f"drawwell:   {fault}", file=sys.stderr)
        if isinstance(error, Refused) and error.retry_after_s is not None:
            about = "about " if error.estimate else ""
            print(f"drawwell: retry after {about}{format_duration(error.retry_after_s)}", file=sys.stderr)
        if error.hint:
            print(f"drawwell: hint: {error.hint}", file=sys.stderr)
        return error.exit_code

    def write_bytes(self, data: bytes, *, force: bool = False) -> None:
        """Write raw bytes to standard output.

        Raises:
            UsageError: standard output is a terminal and `force` is not set.
        """
        if sys.stdout.isatty() and not force:
            raise UsageError(
                "standard output is a terminal",
                hint="Redirect it to a file, or ask for --hex or --base64.",
            )
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def error_document(error: DrawwellError) -> dict[str, Any]:
    """An error as JSON: what it is, what to do, and when to come back."""
    document: dict[str, Any] = {
        "error": str(error),
        "kind": type(error).__name__,
        "hint": error.hint,
        "exit_code": error.exit_code,
    }
    if isinstance(error, Refused):
        document |= {"retry_after_s": error.retry_after_s, "estimate": error.estimate}
    if isinstance(error, ConfigError):
        document["faults"] = list(error.faults)
    return document


def table(rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows in columns, the first row being the heading."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
