"""Inspection of the state on disk, without creating or locking files."""

import fcntl
import os
import sqlite3
import stat
from contextlib import closing
from urllib.parse import quote

from drawwell.errors import StateUnavailable


def require_openable(path: str) -> None:
    """Check that the state at `path` can be opened.

    Raises:
        StateUnavailable: the directory, database or lock is a file of the wrong type, or the
            database is damaged.
    """
    directory = os.path.dirname(path)
    if os.path.lexists(directory) and not os.path.isdir(directory):
        raise StateUnavailable(
            f"{directory} is not a directory", hint="Move it away, or set state_dir in [broker]."
        )
    for each in (path, f"{path}.lock"):
        if os.path.lexists(each) and not stat.S_ISREG(os.lstat(each).st_mode):
            raise StateUnavailable(
                f"{each} is not a regular file", hint="Move it away, or restore it from a backup."
            )
    if os.path.exists(path) and not _in_use(path):
        _check_database(path)


def _in_use(path: str) -> bool:
    """Return whether a broker is using the state, and might change it."""
    if not os.path.exists(f"{path}.lock"):
        return False
    with open(f"{path}.lock", "rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _check_database(path: str) -> None:
    try:
        with closing(sqlite3.connect(f"file:{quote(path)}?mode=ro&immutable=1", uri=True)) as db:
            found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.Error as error:
        found = str(error)
    if found != "ok":
        raise StateUnavailable(
            f"the state in {path} is damaged: {found}",
            hint=f"Restore {path} from a backup, or move it away. Then all consumers must be invited again.",
        )
