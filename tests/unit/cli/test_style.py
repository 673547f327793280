"""Tables and colours of results."""

import io
import re
import threading
from dataclasses import replace

import pytest

from drawwell.cli.output import Output
from drawwell.cli.render import broker_text, consumers_table, link_text, own_text, sources_table
from drawwell.cli.render import tests_table as health_tests_table
from drawwell.cli.style import ALWAYS, AUTO, NEVER, SGR, Style, style_for
from drawwell.reports import as_json
from drawwell.testing.waiting import DEADLINE_S
from support.reports import broker_report

ROWS = [("NAME", "STATE", "DETAIL"), ("stick", "healthy", "one two three four five six seven")]
SOURCE = {
    "identity": {
        "name": "a-stick-with-a-long-name",
        "simulated": True,
        "firmware": "image signature verified, as reported by the device",
    },
    "state": "intermittent failure",
    "paused": False,
    "raw_bytes": 10**9,
    "tested_bytes": 10**9,
    "assessed_bits": 7 * 10**9,
    "conditioned_bits": 10**9,
    "health_failures": 12345,
    "last_error": "repetition count reached its cutoff after a long while, as was to be expected of it",
}
CONSUMER = {
    "name": "a-consumer-with-a-long-name",
    "draws": 10**9,
    "full_bytes": 10**12,
    "drbg_bytes": 10**12,
    "refused": 10**6,
    "rate": "100MiB/s",
    "quota": "100GiB/day",
    "quota_left_bytes": 10**12,
    "draw_class": "both",
    "stream": "full",
}
TEST = {
    "name": "adaptive proportion",
    "unit": "byte",
    "min_entropy": 7.5,
    "window": 512,
    "cutoff_intermittent": 100,
    "cutoff_permanent": 200,
    "worst_count": 50,
    "failures": 0,
}


def widest(text: str) -> int:
    return max(len(SGR.sub("", line)) for line in text.splitlines())


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("width", [40, 60, 80])
@pytest.mark.parametrize(
    ("table", "rows"),
    [(sources_table, [SOURCE]), (consumers_table, [CONSUMER]), (health_tests_table, [TEST])],
)
def test_tables_of_the_status_fit(table, rows, width, colour):
    """Sources, consumers and health tests fit into 80 columns or fewer."""
    assert widest(table(rows, Style(width, colour=colour))) <= width


@pytest.mark.parametrize("width", [40, 60, 80])
def test_lines_of_the_status_fit(width):
    """Outside the tables, no line of a status is wider than the terminal."""
    broker = as_json(replace(broker_report(), consumers_left_out=10, notes=("a long note " * 9,)))
    upstream = {
        "url": "tls://well.example.org:55000",
        "not_ready_because": "",
        "certificate_left_s": 90_000.0,
    }
    link = {
        "ready": True, "uptime_s": 3600.0, "drawn_bytes": 10**9, "draws": 10**9, "notes": ["a long note " * 9],
        "upstreams": [upstream],
    }  # fmt: skip
    style = Style(width, colour=True)
    for text in (broker_text(broker, style), link_text(link, style), own_text(broker, style)):
        assert widest(text) <= width


def test_a_wide_table_is_whole():
    """Without a width limit every column is shown; firmware is one word."""
    text = sources_table([SOURCE], Style())
    assert "CONDITIONED" in text
    assert "  verified" in text


def test_dropped_columns_are_named():
    """The column to drop first is dropped, and the last line names it."""
    text = Style(30).table(ROWS, drop=("DETAIL", "STATE"))
    assert text.splitlines() == ["NAME   STATE", "stick  healthy", "(detail: --wide)"]


def test_a_cell_is_wrapped_where_no_column_may_go():
    """A long cell is wrapped within its own column."""
    text = Style(30).table(ROWS)
    assert widest(text) <= 30
    assert " ".join(line[16:] for line in text.splitlines()[1:]).split() == ROWS[1][2].split()


def test_only_states_are_coloured():
    """A cell with a state is coloured, but its padding is not."""
    text = Style(colour=True).table(ROWS)
    assert SGR.findall(text) == ["\x1b[32m", "\x1b[0m"]
    assert "\x1b[32mhealthy\x1b[0m  one" in text


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "environ", "color", "colour"),
    [
        (Terminal(), {"TERM": "xterm"}, AUTO, True),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": "1"}, AUTO, False),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": ""}, AUTO, True),
        (Terminal(), {"TERM": "dumb"}, AUTO, False),
        (Terminal(), {"TERM": "xterm"}, NEVER, False),
        (io.StringIO(), {"TERM": "xterm"}, AUTO, False),
        (io.StringIO(), {"NO_COLOR": "1"}, ALWAYS, True),
    ],
)
def test_when_there_is_colour(stream, environ, color, colour):
    """NO_COLOR and TERM can disable colours; --color overrides both."""
    assert style_for(stream, environ, wide=False, color=color).colour is colour


def test_the_width_is_that_of_columns():
    """COLUMNS sets the width, --wide removes it, and a file has none."""
    environ = {"COLUMNS": "72"}
    assert style_for(Terminal(), environ, wide=False, color=AUTO).width == 72
    assert style_for(Terminal(), environ, wide=True, color=AUTO).width is None
    assert style_for(io.StringIO(), environ, wide=False, color=AUTO).width is None


def test_a_coloured_result_still_moves_no_terminal(capsys):
    """A coloured result has colour sequences of states and no others."""
    Output(style=Style(colour=True)).result({}, "\x1b[32mready\x1b[0m \x1b[2J\x1b[1m")
    assert capsys.readouterr().out == "\x1b[32mready\x1b[0m ?[2J?[1m\n"


def test_progress_never_wraps(capsys, monkeypatch):
    """The progress line is at least one column shorter than the terminal."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    Output(live_style=Style(40)).progress("x" * 200)
    assert capsys.readouterr().err == "\r\x1b[K" + "x" * 39


def test_work_shows_how_long_it_takes(capsys, monkeypatch):
    """After a second, the elapsed time is shown, and erased at the end."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    asked = threading.Event()

    def doing():
        asked.set()
        return "waiting"

    with Output().working(doing):
        assert asked.wait(DEADLINE_S)
    shown = capsys.readouterr().err
    assert re.match(r"\r\x1b\[Kwaiting … \d+ s", shown)
    assert shown.endswith("\r\x1b[K")
