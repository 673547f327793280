"""What must survive a crash: consumers, invitations, certificates, quota reservations, the boot epoch.

SQLite, every commit on disk before it returns (WAL with synchronous=FULL: https://sqlite.org/pragma.html).
Secrets are stored as hashes; entropy and keys never come here. One process at a time, any thread of it.
"""

import fcntl
import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any, Final, TypeVar

from drawwell.entropy.quota import QuotaState
from drawwell.errors import StateUnavailable
from drawwell.ownership import make_directory, require_ours
from drawwell.state.overdue import OverdueWrites
from drawwell.state.rows import (
    EXPIRED,
    PENDING,
    USED,
    VOID,
    CertificateRow,
    ConsumerRow,
    GuestRow,
    InvitationRow,
    SeedRow,
    consumer_from,
    consumer_values,
    guest_from,
    guest_values,
    quota_from,
)
from drawwell.state.schema import MIGRATIONS

_Row = TypeVar("_Row")
_PRAGMAS: Final = "locking_mode=EXCLUSIVE journal_mode=WAL synchronous=FULL foreign_keys=ON"
"""EXCLUSIVE before WAL: then there is no shared memory file (https://sqlite.org/wal.html, 8)."""
CLOCK_SLACK_S: Final = 3600.0
"""An invitation from further in the future was made by a clock that was wrong."""


class Store:
    """The state of one broker in the file `path`.

    Every method may be called from any thread and returns when the change is on disk.

    Raises:
        StateUnavailable: from the constructor and from every method, with a hint: unreadable, unwritable,
            full, damaged, made by a newer version, or in use by another broker.
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

    # ---- consumers ---------------------------------------------------------------------------------------

    def consumers(self) -> dict[str, ConsumerRow]:
        """Return every consumer, also revoked ones, by name."""
        written = self._rows("SELECT * FROM consumers ORDER BY name", consumer_from)
        return {row.name: row for row in written} | self._changed

    def put_consumer(self, consumer: ConsumerRow) -> None:
        """Add a consumer or replace what is said of it."""
        with self.transaction() as db:
            _put_consumer(db, consumer)

    def change_consumer(self, consumer: ConsumerRow, change: str) -> None:
        """Replace what is said of a consumer at once, and write it when that is possible.

        Raises:
            StateUnavailable: the `change` holds, but is not written yet.
        """
        self._changed[consumer.name] = consumer

        def write() -> None:
            if row := self._changed.get(consumer.name):  # the newest of several changes
                self.put_consumer(row)
                self._changed.pop(consumer.name)

        self.overdue.write(change, write)

    def revoke(self, name: str, now: float) -> None:
        """Revoke a consumer with all its certificates and its SSH key, and void its pending invitations."""
        with self.transaction() as db:
            db.execute(
                "UPDATE consumers SET revoked_at = ?, ssh_key = '', bare_line = ''"
                " WHERE name = ? AND revoked_at IS NULL",
                (now, name),
            )
            db.execute(
                "UPDATE invitations SET status = ? WHERE consumer = ? AND status = ?", (VOID, name, PENDING)
            )
            _revoke_certificates(db, name, now)

    # ---- invitations -------------------------------------------------------------------------------------

    def invitations(self) -> dict[str, InvitationRow]:
        """Return every invitation by its id, oldest first."""
        query = "SELECT * FROM invitations ORDER BY created"
        return {row.id: row for row in self._rows(query, lambda row: InvitationRow(*row))}

    def invite(self, consumer: ConsumerRow, invitation: InvitationRow) -> None:
        """Write a consumer and an invitation for it; an older pending one for the same consumer is void."""
        values = (
            invitation.id,
            invitation.consumer,
            invitation.secret_hash,
            invitation.created,
            invitation.expires,
        )
        with self.transaction() as db:
            _put_consumer(db, consumer)
            db.execute(
                "UPDATE invitations SET status = ? WHERE consumer = ? AND status = ?",
                (VOID, consumer.name, PENDING),
            )
            db.execute("INSERT INTO invitations VALUES (?, ?, ?, ?, ?, ?, NULL, 0, '')", (*values, PENDING))

    def redeem(self, invitation: str, certificate: CertificateRow, now: float, host: str = "") -> bool:
        """Use up a pending invitation, from `host`, for a certificate, which replaces the consumer's earlier ones.

        Returns False, with nothing changed, when the invitation is not pending any more.
        """
        with self.transaction() as db:
            used = db.execute(
                "UPDATE invitations SET status = ?, used_at = ?, used_from = ? WHERE id = ? AND status = ?",
                (USED, now, host, invitation, PENDING),
            )
            if used.rowcount == 1:
                _revoke_certificates(db, certificate.consumer, now)
                values = (certificate.spki, certificate.consumer, certificate.serial, certificate.not_after)
                db.execute("INSERT INTO certificates VALUES (?, ?, ?, ?, NULL, 0)", values)
        return used.rowcount == 1

    def count_wrong_try(self, invitation: str, limit: int) -> None:
        """Count a wrong secret; the `limit`-th makes a pending invitation void."""
        with self.transaction() as db:
            db.execute("UPDATE invitations SET wrong_tries = wrong_tries + 1 WHERE id = ?", (invitation,))
            db.execute(
                "UPDATE invitations SET status = ? WHERE id = ? AND status = ? AND wrong_tries >= ?",
                (VOID, invitation, PENDING, limit),
            )

    def expire_invitations(self, now: float) -> None:
        """Mark what has expired, or was made by a clock ahead of time: neither comes to life again."""
        with self.transaction() as db:
            db.execute(
                "UPDATE invitations SET status = ? WHERE status = ? AND (expires <= ? OR created > ?)",
                (EXPIRED, PENDING, now, now + CLOCK_SLACK_S),
            )

    # ---- certificates ------------------------------------------------------------------------------------

    def certificates(self) -> dict[str, CertificateRow]:
        """Return every certificate by its `spki`, also revoked ones."""
        rows = self._rows("SELECT * FROM certificates", lambda row: CertificateRow(*row))
        return {row.spki: row for row in rows}

    def renew(self, certificate: CertificateRow) -> bool:
        """Write a newer certificate for a key that is known and not revoked; False when there is none such."""
        with self.transaction() as db:
            renewed = db.execute(
                "UPDATE certificates SET earlier_end = max(earlier_end, not_after), serial = ?, not_after = ?"
                " WHERE spki = ? AND consumer = ? AND revoked_at IS NULL",
                (certificate.serial, certificate.not_after, certificate.spki, certificate.consumer),
            )
        return renewed.rowcount == 1

    # ---- seeds for first boots ---------------------------------------------------------------------------

    def claim_seed(self, machine: str, now: float, *, again: bool) -> SeedRow | None:
        """Note that a seed for `machine` is about to be written.

        Where one was, it is returned and nothing is noted, unless it is meant to be written `again`.
        """
        with self.transaction() as db:
            found = db.execute("SELECT * FROM seeds WHERE machine = ?", (machine,)).fetchone()
            if found and not again:
                return SeedRow(*found)
            restored_at = self._meta("restored_at", 0.0)
            if restored_at and not found and not again:  # one may be in what was lost
                return SeedRow(machine, 1, restored_at, None)
            db.execute(
                "INSERT INTO seeds VALUES (?, 1, ?, NULL) ON CONFLICT (machine) DO UPDATE SET count = count + 1",
                (machine, now),
            )
        return None

    def settle_seed(self, machine: str, serial: int | None) -> None:
        """Note the serial number of the grant that was written; None takes the last claim back: nothing was."""
        with self.transaction() as db:
            if serial is not None:
                db.execute("UPDATE seeds SET serial = ? WHERE machine = ?", (serial, machine))
            else:
                db.execute("UPDATE seeds SET count = count - 1 WHERE machine = ?", (machine,))
                db.execute("DELETE FROM seeds WHERE machine = ? AND count = 0", (machine,))

    # ---- guests ------------------------------------------------------------------------------------------

    def guests(self) -> dict[str, GuestRow]:
        """Return every guest by name."""
        return {row.name: row for row in self._rows("SELECT * FROM guests ORDER BY name", guest_from)}

    def put_guest(self, guest: GuestRow) -> bool:
        """Add a guest or replace what is said of it; False, and nothing done, when an invited consumer has its name."""
        with self.transaction() as db:
            put = db.execute(
                "INSERT OR REPLACE INTO guests SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?"
                " WHERE NOT EXISTS (SELECT 1 FROM consumers WHERE name = ? AND revoked_at IS NULL)",
                (*guest_values(guest), guest.name),
            )
        return put.rowcount == 1

    def remove_guest(self, name: str) -> None:
        """Forget a guest; what it spent stays."""
        with self.transaction() as db:
            db.execute("DELETE FROM guests WHERE name = ?", (name,))

    # ---- quota and time ----------------------------------------------------------------------------------

    def quota_states(self) -> dict[str, QuotaState]:
        """Return the last reservation of every consumer that has one."""
        return dict(self._rows("SELECT consumer, state FROM quota", quota_from))

    def reserve_quota(self, states: Mapping[str, QuotaState]) -> None:
        """Write many reservations in one durable commit."""
        rows = [(consumer, json.dumps(asdict(state))) for consumer, state in states.items()]
        with self.transaction() as db:
            db.executemany("INSERT OR REPLACE INTO quota VALUES (?, ?)", rows)

    @property
    def boot_epoch(self) -> int:
        """How often this state was opened, this time included: no two openings have the same."""
        return int(self._meta("boot_epoch", 0))

    @property
    def time_seen(self) -> float:
        """The time noted last; 0.0 for none."""
        return float(self._meta("time_seen", 0.0))

    def note_time(self, now: float) -> None:
        """Note the time, in seconds since 1970, for the clock of the next start."""
        with self.transaction() as db:
            _put_meta(db, "time_seen", now)

    # ---- the file ----------------------------------------------------------------------------------------

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

    def _rows(self, query: str, parse: Callable[[tuple[Any, ...]], _Row]) -> list[_Row]:
        with self._lock, self._translated():
            rows = self._db.execute(query).fetchall()
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
    words = str(error)
    if isinstance(error, BlockingIOError):
        return "Another broker runs on this state: stop it, or give this one a state directory of its own."
    if "full" in words or "disk I/O" in words or getattr(error, "errno", 0) in {27, 28, 122}:
        return f"Free some space on the file system of {path}. Until then no draw that a quota must remember is served."
    if "not a database" in words or "malformed" in words:
        return _restore(path)
    return f"Check that {os.path.dirname(path)} can be written by the broker's user."


def _restore(path: str) -> str:
    return f"Restore {path} from a backup, or move it away: consumers must then be invited anew."


def _lock_file(path: str) -> int:
    """Make the directory and hold the lock beside `path`; it is let go when the process ends, however it ends."""
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


def _put_consumer(db: sqlite3.Connection, row: ConsumerRow) -> None:
    db.execute(
        "INSERT INTO consumers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET rate = excluded.rate,"
        " quota = excluded.quota, classes = excluded.classes, revoked_at = excluded.revoked_at,"
        " stream = excluded.stream, ssh_key = excluded.ssh_key, bare_line = excluded.bare_line",
        consumer_values(row),
    )


def _revoke_certificates(db: sqlite3.Connection, consumer: str, now: float) -> None:
    db.execute(
        "UPDATE certificates SET revoked_at = ? WHERE consumer = ? AND revoked_at IS NULL", (now, consumer)
    )


def _put_meta(db: sqlite3.Connection, key: str, value: float) -> None:
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))
