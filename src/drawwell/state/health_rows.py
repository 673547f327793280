"""The file of the sources' health history (entropy/health_history.py).

SQLite. Nothing but drawings depends on it, so a commit does not wait for the disk
(synchronous=NORMAL: https://sqlite.org/pragma.html), and a damaged file is set aside.
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
    """The file `path`, of the broker that locked the state next to it.

    A file that cannot be read is renamed to `path`.damaged; without a file that can be used,
    rows are kept in memory.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._db = self._open()

    def load_into(self, history: HealthHistory) -> None:
        """Add every row that can be read, in the order of time."""
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
        """Write rows; drop those of other sources and times.

        Times that are too old or in the future at `now`, in seconds since 1970.

        Raises:
            StateUnavailable: they could not be written.
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
                f"the health history in {self._path}: {error}",
                hint=f"Check the space on its file system, or move it away: {self._path}.",
            ) from error

    def close(self) -> None:
        """Close it; a second call does nothing."""
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
            log.error("the health history is kept in memory only: %s: %s", self._path, error)
        return _connect(":memory:")

    def _set_aside(self, error: Exception) -> None:
        log.warning("%s is damaged (%s); it is set aside as %s.damaged", self._path, error, self._path)
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
