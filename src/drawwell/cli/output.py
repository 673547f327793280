"""Rules of output, in one place.

- Results go to standard output, words to standard error with the prefix ``drawwell:``.
- With ``--json`` the result is exactly one JSON document, and an error is one too, on standard error.
- Bytes go to a terminal only when asked for (``--hex``, ``--force``).
- What others chose, as names of guests and words of sources, moves no terminal: nothing is printed that one obeys.
- Progress is drawn on a terminal only, on one line, and erased afterwards. style.py has width and colour.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from drawwell.cli.style import PLAIN, SGR, Style
from drawwell.errors import ConfigError, DrawwellError, Refused, UsageError


class Output:
    """Where a verb's results and words go."""

    def __init__(
        self, *, as_json: bool = False, quiet: bool = False, style: Style = PLAIN, live_style: Style = PLAIN
    ) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.style = style
        self.live_style = live_style
        self._progress_shown = False

    @property
    def live(self) -> bool:
        """Is standard error a terminal that may be drawn upon?"""
        return sys.stderr.isatty() and not self.quiet and os.environ.get("TERM") != "dumb"

    def result(self, document: Mapping[str, Any] | Sequence[Any], text: str, *, anew: bool = False) -> None:
        """Print a result: `document` with ``--json``, `text` otherwise; `anew` clears a terminal before."""
        import json

        self.clear_progress()
        clear = "\x1b[H\x1b[2J" if anew and os.isatty(1) and not self.as_json else ""
        shown = printable(text, colour=self.style.colour)
        print(clear + (json.dumps(document, indent=2) if self.as_json else shown), flush=True)

    def say(self, words: str) -> None:
        """Tell the operator something that is not the result."""
        if not self.quiet:
            self.clear_progress()
            print(f"drawwell: {printable(words)}", file=sys.stderr, flush=True)

    def progress(self, words: str) -> None:
        """Redraw the progress line, on a terminal only, cut to its width: a longer one would wrap."""
        if self.live:
            shown = printable(words)[: (self.live_style.width or _USUAL_WIDTH) - 1]
            print(f"\r\x1b[K{shown}", end="", file=sys.stderr, flush=True)
            self._progress_shown = True

    @contextmanager
    def working(self, doing: str | Callable[[], str]) -> Iterator[None]:
        """Show what is being done, and for how long, until the block ends; nothing in its first second."""
        if not self.live:
            yield
            return
        import threading

        done = threading.Event()

        def show() -> None:
            begun = time.monotonic()
            while not done.wait(1):
                text = doing if isinstance(doing, str) else doing()
                self.progress(f"{text} … {time.monotonic() - begun:.0f} s")

        ticker = threading.Thread(target=show, daemon=True)
        ticker.start()
        try:
            yield
        finally:
            done.set()
            ticker.join()
            self.clear_progress()

    def clear_progress(self) -> None:
        """Erase the progress line."""
        if self._progress_shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._progress_shown = False

    def error(self, error: DrawwellError) -> int:
        """Print an error with its hint; return its exit code."""
        self.clear_progress()
        if self.as_json:
            import json

            print(json.dumps(error_document(error)), file=sys.stderr)
            return error.exit_code
        print(f"drawwell: {printable(str(error))}", file=sys.stderr)
        for fault in error.faults if isinstance(error, ConfigError) else ():
            print(f"drawwell:   {printable(fault)}", file=sys.stderr)
        if isinstance(error, Refused) and error.retry_after_s is not None:
            from drawwell.units import format_duration

            about = "about " if error.estimate else ""
            print(f"drawwell: retry after {about}{format_duration(error.retry_after_s)}", file=sys.stderr)
        if error.hint:
            print(f"drawwell: hint: {printable(error.hint)}", file=sys.stderr)
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


def printable(text: str, *, colour: bool = False) -> str:
    """`text` with a question mark for what a terminal obeys, what turns its lines round, and what is no character.

    With `colour` the few sequences of style.py stay.
    """
    if not colour:
        return text.translate(_OBEYED)
    plain = [piece.translate(_OBEYED) for piece in SGR.split(text)]
    return "".join(sum(zip(plain, [*SGR.findall(text), ""], strict=True), ()))


_USUAL_WIDTH: Final = 80
_OBEYED: Final = dict.fromkeys(
    (*range(9), *range(11, 32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A),
     *range(0xD800, 0xE000)), "?",
)  # fmt: skip
"""C0 but tab and line end, DEL, C1, the bidirectional overrides, surrogates."""


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
