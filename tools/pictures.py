"""Draw docs/pictures: commands on a terminal, and the status page.

`status` and `doctor` run with a broker and a simulated stick in a temporary directory; `demo`
starts its own. Each picture is a screen of 80 columns at the end of the command. Chromium
takes a screenshot of the status page.
"""

import contextlib
import html
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from playwright.sync_api import sync_playwright

from drawwell.testing.waiting import wait_until

FOLDER: Final = Path(__file__).resolve().parent.parent / "docs" / "pictures"
PROGRAM: Final = (sys.executable, "-m", "drawwell")
COLUMNS: Final = 80
PORT: Final = 55_080
COMMANDS: Final = (("status",), ("doctor",), ("demo", "--seconds", "3"))
CONFIGURATION: Final = """\
[broker]
name = "well"
state_dir = "{0}/state"
run_dir = "{0}/run"
[[source]]
name = "stick"
driver = "onerng"
path = "{0}/onerng"
[[consumer]]
name = "backup"
user = "backup"
quota = "1MiB/day"
[http]
listen = "{0}/run/http.sock"
[health]
listen = "127.0.0.1:{1}"
"""
_STEP: Final = re.compile(r"\x1b\[(\d*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n])", re.DOTALL)
_COLOURS: Final = {"31": "#ff7b72", "32": "#7ee787", "33": "#e3b341"}
_SIZE: Final = (8.4, 18)
"""Width and height of a character, in pixels."""
Cell = tuple[str, str]


def screen(output: str) -> list[list[Cell]]:
    """Return the lines of a terminal after `output`, with colours."""
    lines: list[list[Cell]] = [[]]
    row, column, colour = 0, 0, ""
    for number, letter, back, newline, text in _STEP.findall(output):
        if letter == "A":
            row = max(0, row - int(number or 1))
        elif letter == "K":
            del lines[row][column:]
        elif letter == "m":
            colour = _COLOURS.get(number, "")
        elif back:
            column = 0
        elif newline:
            row, column = row + 1, 0
            lines += [] if row < len(lines) else [[]]
        elif text:
            if column == COLUMNS:  # wrap like a terminal
                row, column = row + 1, 0
                lines += [] if row < len(lines) else [[]]
            lines[row] += [(" ", "")] * (column + 1 - len(lines[row]))
            lines[row][column] = (text, colour)
            column += 1
    while lines and not lines[-1]:
        lines.pop()
    return lines


def svg(typed: str, lines: list[list[Cell]]) -> str:
    """Return a picture of a terminal with a command and its output."""
    width, height = _SIZE
    rows = [[(each, "") for each in f"$ {typed}"], *lines]
    shown = [
        f'<text x="12" y="{(at + 1) * height + 6}" xml:space="preserve">{_spans(row)}</text>'
        for at, row in enumerate(rows)
    ]
    size = f"{COLUMNS * width + 24:.0f} {len(rows) * height + 24}"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" role="img" aria-label="{typed}">',
            '<rect width="100%" height="100%" rx="6" fill="#0d1117"/>',
            '<g font-family="DejaVu Sans Mono, monospace" font-size="14" fill="#e6edf3">',
            *shown,
            "</g>",
            "</svg>",
            "",
        ]
    )


def _spans(row: list[Cell]) -> str:
    spans, at = [], 0
    while at < len(row):
        end = at
        while end < len(row) and row[end][1] == row[at][1]:
            end += 1
        text = html.escape("".join(character for character, _colour in row[at:end]))
        colour = row[at][1]
        spans.append(f'<tspan fill="{colour}">{text}</tspan>' if colour else text)
        at = end
    return "".join(spans)


def on_terminal(*arguments: str, config: str) -> str:
    """Run a command on a pseudo-terminal; return its whole output."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (50, COLUMNS))
    environment = os.environ | {"TERM": "xterm-256color", "DRAWWELL_CONFIG": config}
    with subprocess.Popen([*PROGRAM, *arguments], stdout=slave, stderr=slave, env=environment):
        os.close(slave)
        pieces = []
        with contextlib.suppress(OSError):  # EIO: the command has ended
            while piece := os.read(master, 65_536):
                pieces.append(piece)
    os.close(master)
    return b"".join(pieces).decode()


@contextlib.contextmanager
def broker(folder: str) -> Iterator[str]:
    """Run a broker with a simulated stick; yield its configuration."""
    config = f"{folder}/drawwell.toml"
    Path(config).write_text(CONFIGURATION.format(folder, PORT))
    stick = [*PROGRAM, "source", "simulate", "--link", f"{folder}/onerng"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(stick, **quiet) as device:  # type: ignore[call-overload]
        wait_until(lambda: os.path.exists(f"{folder}/onerng"), "the stick is there")
        with subprocess.Popen([*PROGRAM, "-c", config, "run"], **quiet) as running:  # type: ignore[call-overload]
            ready = [*PROGRAM, "-c", config, "status", "--require", "ready"]
            wait_until(lambda: subprocess.run(ready, check=False, **quiet).returncode == 0, "it serves")  # type: ignore[call-overload]
            for size in ("32", "4KiB"):
                subprocess.run([*PROGRAM, "-c", config, "draw", size, "--hex"], check=True, **quiet)  # type: ignore[call-overload]
            yield config
            running.terminate()
        device.terminate()


def take_status_page(path: Path) -> None:
    """Take a screenshot of the status page."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 700})
        page.goto(f"http://127.0.0.1:{PORT}/ui")
        page.screenshot(path=path, full_page=True)
        browser.close()


def main() -> int:
    """Write every picture."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="dw-") as folder, broker(folder) as config:
        for arguments in COMMANDS:
            shown = on_terminal(*arguments, config=config).replace(folder, "/srv/drawwell")
            shown = shown.replace(os.uname().release, os.uname().release.partition("-")[0])
            path = FOLDER / f"{arguments[0]}.svg"
            path.write_text(svg(" ".join(["drawwell", *arguments]), screen(shown)))
            print(f"wrote {path.name}")
        take_status_page(FOLDER / "status-page.png")
        print("wrote status-page.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
