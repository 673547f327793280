"""The broker's database file: one process at a time, any thread of it.

SQLite, every commit on disk before it returns (WAL with synchronous=FULL:
https://sqlite.org/pragma.html).
"""

import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar

from drawwell.errors import StateUnavailable
from drawwell.ownership import make_directory, require_ours
from drawwell.state.overdue import OverdueWrites
from drawwell.state.rows import ConsumerRow
from drawwell.state.schema import MIGRATIONS

_Row = TypeVar("_Row")
_PRAGMAS: Final = "locking_mode=EXCLUSIVE journal_mode=WAL synchronous=FULL foreign_keys=ON"
"""EXCLUSIVE before WAL: no shared memory file (https://sqlite.org/wal.html, 8)."""


class Database:
    """The file `path`, its lock, its schema, and facts of the broker.

    Raises:
        StateUnavailable: from the constructor and from every method, with a hint: unreadable,
            unwritable, full, damaged, made by a newer version, or in use by another broker.
    """

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)
        self._lock = threading.RLock()
        self.fault = ""
        """What kept the last change from being written, "" when it was."""
        self.overdue = OverdueWrites()
        self._changed: dict[str, ConsumerRow] = {}
        """Consumers as they are now, where that is not written yet."""
        with self._translated():
            self._lock_fd = _lock_file(self._path)
        try:
            self._db = self._open()
        except BaseException:
            os.close(self._lock_fd)
            raise

    def close(self) -> None:
        """Close it; a second call does nothing."""
        with self._lock, self._translated():
            self._db.close()
            if self._lock_fd >= 0:
                os.close(self._lock_fd)
                self._lock_fd = -1

    @property
    def boot_epoch(self) -> int:
        """How often this state was opened, this time included."""
        return int(self._meta("boot_epoch", 0))

    @property
    def time_seen(self) -> float:
        """The time noted last; 0.0 for none."""
        return float(self._meta("time_seen", 0.0))

    def note_time(self, now: float) -> None:
        """Note the time in seconds since 1970, for the next start's clock."""
        with self.transaction() as db:
            _put_meta(db, "time_seen", now)

    # ---- the file ---------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        with self._translated():
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
            os.chmod(self._path, 0o600)
            db = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None, timeout=0)
        self._db = db
        try:
            with self._translated():
                for pragma in _PRAGMAS.split():
                    db.execute(f"PRAGMA {pragma}").fetchall()
            self._migrate()
            with self.transaction():
                _put_meta(db, "boot_epoch", self.boot_epoch + 1)
        except BaseException:
            db.close()
            raise
        return db

    def _migrate(self) -> None:
        with self.transaction() as db:
            db.execute("CREATE TABLE IF NOT EXISTS migrations (version INTEGER PRIMARY KEY)")
            version = db.execute("SELECT coalesce(max(version), 0) FROM migrations").fetchone()[0]
            if version > len(MIGRATIONS):
                raise StateUnavailable(
                    f"{self._path} was written by a newer version of drawwell",
                    hint="Start that version, or restore the state of this one.",
                )
            for number, script in enumerate(MIGRATIONS[version:], version + 1):
                for statement in script.split(";"):
                    db.execute(statement)
                db.execute("INSERT INTO migrations VALUES (?)", (number,))

    def _rows(
        self, query: str, parse: Callable[[tuple[Any, ...]], _Row], values: Sequence[object] = ()
    ) -> list[_Row]:
        with self._lock, self._translated():
            rows = self._db.execute(query, values).fetchall()
        try:
            return [parse(row) for row in rows]
        except (ValueError, TypeError) as error:
            raise StateUnavailable(
                f"the state in {self._path} is damaged", hint=_restore(self._path)
            ) from error

    def _meta(self, key: str, default: float) -> Any:
        with self._lock, self._translated():
            row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return row[0] if row else default

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of it or nothing, and on disk afterwards."""
        with self._lock, self._translated():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException as error:
                if isinstance(error, sqlite3.Error | OSError):
                    self.fault = _reason(error)
                with suppress(sqlite3.Error):  # SQLite may have rolled back already
                    self._db.execute("ROLLBACK")
                raise
            self.fault = ""

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StateUnavailable(
                f"the state in {self._path}: {_reason(error)}", hint=_hint(error, self._path)
            ) from error


def _reason(error: Exception) -> str:
    if isinstance(error, BlockingIOError):
        return "in use"
    return (error.strerror if isinstance(error, OSError) and error.strerror else str(error)).lower()


def _hint(error: Exception, path: str) -> str:
    text = str(error)
    if isinstance(error, BlockingIOError):
        return "Another broker runs on this state: stop it, or give this one a state directory of its own."
    if "full" in text or "disk I/O" in text or getattr(error, "errno", 0) in {27, 28, 122}:
        return f"Free some space on the file system of {path}. Until then no draw that a quota must remember is served."
    if "not a database" in text or "malformed" in text:
        return _restore(path)
    return f"Check that {os.path.dirname(path)} can be written by the broker's user."


def _restore(path: str) -> str:
    return f"Restore {path} from a backup, or move it away: consumers must then be invited again."


def _lock_file(path: str) -> int:
    """Make the directory and lock the file next to `path`.

    The kernel drops the lock when the process ends.
    """
    directory = os.path.dirname(path)
    make_directory(directory)
    require_ours(directory, alone=True)
    require_ours(path)
    fd = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd


def _put_meta(db: sqlite3.Connection, key: str, value: float) -> None:
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))
