"""The SQLite file of the health history (entropy/health_history.py).

Only charts depend on this file. So a commit does not wait for the disk (synchronous=NORMAL:
https://sqlite.org/pragma.html), and a damaged file is renamed and replaced.
"""

import json
import logging
import os
import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from typing import Final

from drawwell.entropy.health_history import LENGTH, HealthHistory, Row, Span
from drawwell.errors import StateUnavailable

log = logging.getLogger("drawwell.broker")

_SET_UP: Final = """
    PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;
    CREATE TABLE IF NOT EXISTS health (
        source TEXT, span INTEGER, at INTEGER, row TEXT NOT NULL, PRIMARY KEY (source, span, at)) WITHOUT ROWID;
"""


class HealthRows:
    """The file `path`; the broker must have locked the state next to it.

    A file that cannot be read is renamed to `path`.damaged. If no new file can be created,
    rows are kept in memory.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._db = self._open()

    def load_into(self, history: HealthHistory) -> None:
        """Add all rows to a history, oldest first; replace a damaged file."""
        try:
            for source, span, tests, row in self._rows():
                history.of(source, tests).add(span, row)
        except (sqlite3.Error, ValueError, TypeError, AttributeError) as error:
            self._db.close()
            self._set_aside(error)
            self._db = self._open()

    def keep(
        self, rows: Iterable[tuple[str, Span, tuple[str, ...], Row]], sources: Collection[str], now: float
    ) -> None:
        """Write rows; delete outdated rows and those of sources not in `sources`.

        A row is outdated if it is too old, or later than `now` (seconds since 1970).

        Raises:
            StateUnavailable: the rows could not be written.
        """
        values = [
            (source, span, row.at, json.dumps([row.min_entropy, dict(zip(tests, row.nearness, strict=True))]))
            for source, span, tests, row in rows
        ]
        try:
            with self._lock, self._db:
                self._db.executemany("INSERT OR REPLACE INTO health VALUES (?, ?, ?, ?)", values)
                names = {name for (name,) in self._db.execute("SELECT DISTINCT source FROM health")}
                gone = [(name,) for name in names.difference(sources)]
                self._db.executemany("DELETE FROM health WHERE source = ?", gone)
                for span in Span:
                    newest = int(now // span)
                    kept = (span, newest - LENGTH[span], newest)
                    self._db.execute("DELETE FROM health WHERE span = ? AND NOT (at > ? AND at <= ?)", kept)
        except sqlite3.Error as error:
            raise StateUnavailable(
                f"cannot write the health history in {self._path}: {error}",
                hint=f"Check the free space of its file system, or move {self._path} away.",
            ) from error

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        with self._lock:
            self._db.close()

    def _rows(self) -> Iterator[tuple[str, Span, tuple[str, ...], Row]]:
        for source, span, at, text in self._db.execute("SELECT * FROM health ORDER BY span * at"):
            min_entropy, tests = json.loads(text)
            nearness = tuple(float(each) for each in tests.values())
            yield source, Span(span), tuple(tests), Row(int(at), float(min_entropy), nearness)

    def _open(self) -> sqlite3.Connection:
        try:
            return _connect(self._path)
        except (sqlite3.Error, OSError) as error:
            self._set_aside(error)
        try:
            return _connect(self._path)
        except (sqlite3.Error, OSError) as error:
            log.error("keeping the health history in memory only: %s: %s", self._path, error)
        return _connect(":memory:")

    def _set_aside(self, error: Exception) -> None:
        log.warning("%s is damaged (%s); renaming it to %s.damaged", self._path, error, self._path)
        with suppress(OSError):
            os.replace(self._path, f"{self._path}.damaged")
        with suppress(OSError):
            os.unlink(f"{self._path}-wal")


def _connect(path: str) -> sqlite3.Connection:
    if path != ":memory:":
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    db = sqlite3.connect(path, check_same_thread=False, timeout=0)
    try:
        db.executescript(_SET_UP)
    except BaseException:
        db.close()
        raise
    return db
