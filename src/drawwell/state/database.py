"""The broker's SQLite file, for one process at a time, from any thread.

Every commit is on disk before it returns (WAL with synchronous=FULL:
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
"""EXCLUSIVE, set before WAL, avoids a shared-memory file (https://sqlite.org/wal.html, 8)."""


class Database:
    """The file `path`, its lock, its schema, and the broker's own values.

    Raises:
        StateUnavailable: in the constructor and every method, if the file is unreadable,
            unwritable, full, damaged, of a newer version, or in use by another broker.
    """

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)
        self._lock = threading.RLock()
        self.fault = ""
        """Why the last change was not written, or "" if it was."""
        self.overdue = OverdueWrites()
        self._changed: dict[str, ConsumerRow] = {}
        """Changed consumers that are not written yet."""
        with self._translated():
            self._lock_fd = _lock_file(self._path)
        try:
            self._db = self._open()
        except BaseException:
            os.close(self._lock_fd)
            raise

    def close(self) -> None:
        """Close the database and release the lock; a second call does nothing."""
        with self._lock, self._translated():
            self._db.close()
            if self._lock_fd >= 0:
                os.close(self._lock_fd)
                self._lock_fd = -1

    @property
    def boot_epoch(self) -> int:
        """How many times this state has been opened, including now."""
        return int(self._meta("boot_epoch", 0))

    @property
    def time_seen(self) -> float:
        """The last recorded time, 0.0 for none."""
        return float(self._meta("time_seen", 0.0))

    def note_time(self, now: float) -> None:
        """Record the time (seconds since 1970) for the clock of the next start."""
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
                    hint="Start that version, or restore a state of this version.",
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
        """Run the block as one transaction, which is on disk at the end."""
        with self._lock, self._translated():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException as error:
                if isinstance(error, sqlite3.Error | OSError):
                    self.fault = _reason(error)
                with suppress(sqlite3.Error):  # SQLite might have rolled back already
                    self._db.execute("ROLLBACK")
                raise
            self.fault = ""

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StateUnavailable(
                f"cannot use the state in {self._path}: {_reason(error)}", hint=_hint(error, self._path)
            ) from error


def _reason(error: Exception) -> str:
    if isinstance(error, BlockingIOError):
        return "in use"
    return (error.strerror if isinstance(error, OSError) and error.strerror else str(error)).lower()


def _hint(error: Exception, path: str) -> str:
    text = str(error)
    if isinstance(error, BlockingIOError):
        return "Another broker is using this state. Stop it, or give this broker its own state directory."
    if "full" in text or "disk I/O" in text or getattr(error, "errno", 0) in {27, 28, 122}:
        return f"Free space on the file system of {path}. Until then, draws that are charged to a quota are refused."
    if "not a database" in text or "malformed" in text:
        return _restore(path)
    return f"Check that the broker's user can write to {os.path.dirname(path)}."


def _restore(path: str) -> str:
    return f"Restore {path} from a backup, or move it away. Then all consumers must be invited again."


def _lock_file(path: str) -> int:
    """Create the directory, and lock the file `path`.lock in it.

    The kernel releases the lock when the process ends.
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
