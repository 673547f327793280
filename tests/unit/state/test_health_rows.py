"""The file of the health history."""

import logging
import sqlite3
from pathlib import Path

import pytest

from drawwell.entropy.health_history import HealthHistory, Row, Span
from drawwell.state.health_rows import HealthRows

TESTS = ("repetition count (byte)", "repeat (byte)")
NOW = 1_800_000_000.0


def kept(path: Path) -> HealthHistory:
    """Return the rows that a new broker would read."""
    history, rows = HealthHistory(4), HealthRows(str(path))
    rows.load_into(history)
    rows.close()
    return history


def keep(path: Path, *rows: Row, tests: tuple[str, ...] = TESTS) -> None:
    file = HealthRows(str(path))
    file.keep([("stick", Span.MINUTE, tests, row) for row in rows], {"stick"}, NOW)
    file.close()


def test_rows_outlive_the_process(tmp_path: Path) -> None:
    """Rows are read back with their tests, without too old or future ones."""
    path, minute = tmp_path / "health.db", int(NOW // 60)
    rows = [Row(minute - 1, 6.5, (0.5, 0.0)), Row(minute, 0.0, (1.0, 0.25))]
    keep(path, Row(minute - 1440, 7.0, (0.1, 0.1)), *rows, Row(minute + 1, 7.0, (0.1, 0.1)))

    stick = kept(path).sources["stick"]
    assert (stick.tests, list(stick.rows[Span.MINUTE])) == (TESTS, rows)
    assert path.stat().st_mode & 0o777 == 0o600


def test_rows_of_earlier_tests_are_left_out(tmp_path: Path) -> None:
    """If a source's tests changed, only the newer rows are read."""
    path, minute = tmp_path / "health.db", int(NOW // 60)
    keep(path, Row(minute - 1, 6.5, (0.5,)), tests=("repeat (byte)",))
    keep(path, Row(minute, 6.5, (0.5, 0.5)))

    assert [row.at for row in kept(path).sources["stick"].rows[Span.MINUTE]] == [minute]


def test_rows_of_other_sources_are_dropped(tmp_path: Path) -> None:
    """A removed source has no rows after the next write."""
    path = tmp_path / "health.db"
    keep(path, Row(int(NOW // 60), 6.5, (0.5, 0.5)))
    rows = HealthRows(str(path))
    rows.keep([], {"other"}, NOW)
    rows.close()

    assert not kept(path).sources


def _garbage(path: Path) -> None:
    path.write_bytes(b"not a database" * 100)


def _wrong_row(path: Path) -> None:
    keep(path, Row(int(NOW // 60), 7.0, (0.1, 0.1)))
    with sqlite3.connect(path) as db:
        db.execute("UPDATE health SET row = '[1, 2]'")
    db.close()


def _directory(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("damage", [_garbage, _wrong_row, _directory])
def test_a_damaged_file_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture, damage) -> None:
    """The file is renamed, the log has a line, and a new file is used."""
    path = tmp_path / "health.db"
    damage(path)
    with caplog.at_level(logging.WARNING):
        assert not kept(path).sources
    assert "is damaged" in caplog.text
    assert (tmp_path / "health.db.damaged").exists()
    keep(path, Row(int(NOW // 60), 7.0, (0.1, 0.1)))
    assert kept(path).sources


def test_without_a_file_the_broker_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """If no file can be created, rows stay in memory, and the log has a line."""
    rows = HealthRows(str(tmp_path / "missing" / "health.db"))
    rows.keep([], set(), NOW)
    rows.close()
    assert "in memory only" in caplog.text
