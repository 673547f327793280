"""What must survive a crash: consumers, invitations, certificates, seeds, guests, reservations.

Secrets are stored as hashes; entropy and keys never come here. Whatever is kept by consumer is
found by an index, and no call reads all consumers but `consumers`.
"""

import json
import sqlite3
from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Final

from drawwell.entropy.quota import QuotaState
from drawwell.state.database import Database
from drawwell.state.rows import (
    EXPIRED,
    PENDING,
    USED,
    VOID,
    CertificateRow,
    ConsumerRow,
    GuestRow,
    InvitationRow,
    KnownConsumer,
    ListedConsumer,
    SeedRow,
    consumer_from,
    consumer_values,
    guest_from,
    guest_values,
    quota_from,
)

CLOCK_SLACK_S: Final = 3600.0
"""An invitation from further in the future was made by a clock that was wrong."""


class Store(Database):
    """The state of one broker in its database file: a `ConsumerStore`, and its own guests.

    Every method may be called from any thread and returns when the change is on disk.
    """

    # ---- consumers ---------------------------------------------------------------------------------------

    def find(self, name: str) -> KnownConsumer | None:
        """Return a consumer with all its certificates; see `ConsumerStore.find`."""
        with self._lock:
            rows = self._rows("SELECT * FROM consumers WHERE name = ?", consumer_from, (name,))
            row = self._changed.get(name) or next(iter(rows), None)
            return KnownConsumer(row, self.certificates(name)) if row else None

    def owner_of(self, key: str) -> str | None:
        """Return the consumer that a key is registered for; see `ConsumerStore.owner_of`."""
        query = "SELECT consumer FROM certificates WHERE spki = ?"
        joined = self._rows(query, lambda row: str(row[0]), (key,))
        query = "SELECT name FROM consumers WHERE ssh_key = ? AND ssh_key <> ''"
        written = self._rows(query, lambda row: str(row[0]), (key,))
        changed = [row.name for row in self._changed.values() if row.ssh_key == key]
        return next(iter((*joined, *changed, *(name for name in written if name not in self._changed))), None)

    def certificates(self, consumer: str) -> dict[str, CertificateRow]:
        """Return the certificates of a consumer by `spki`, revoked ones included."""
        query = "SELECT * FROM certificates WHERE consumer = ?"
        rows = self._rows(query, lambda row: CertificateRow(*row), (consumer,))
        return {row.spki: row for row in rows}

    def consumers(self) -> dict[str, ConsumerRow]:
        """Return every consumer, revoked ones included, by name: all of the table."""
        written = self._rows("SELECT * FROM consumers ORDER BY name", consumer_from)
        return {row.name: row for row in written} | self._changed

    def page(self, pattern: str, after: str, limit: int) -> list[ListedConsumer]:
        """Return some consumers in the order of their names; see `ConsumerStore.page`."""
        beginning = pattern[: next((at for at, letter in enumerate(pattern) if letter in "*?["), None)]
        query = (
            "SELECT * FROM consumers WHERE name > ? AND name >= ? AND name < ? AND name GLOB ?"
            " ORDER BY name LIMIT ?"
        )
        values = (after, beginning, f"{beginning}\x7f", pattern or "*", limit)  # names are ASCII
        with self._lock:
            rows = self._rows(query, consumer_from, values)
            names = [row.name for row in rows]
            expiry, invitations = self._expiry_of(names), self._invitations_of(names)
        return [
            ListedConsumer(self._changed.get(row.name, row), expiry.get(row.name), invitations.get(row.name))
            for row in rows
        ]

    def count(self) -> int:
        """Return how many consumers are invited and not revoked."""
        query = "SELECT count(*) FROM consumers WHERE revoked_at IS NULL"
        return self._rows(query, lambda row: int(row[0]))[0]

    def bare_lines(self) -> dict[str, ConsumerRow]:
        """Return the consumers whose bare line is judged, or must be, by name."""
        rows = self._rows("SELECT * FROM consumers WHERE bare_line <> ''", consumer_from)
        return {row.name: row for row in sorted(rows, key=lambda row: row.name)}

    def _expiry_of(self, names: Collection[str]) -> dict[str, float]:
        query = f"SELECT * FROM certificates WHERE revoked_at IS NULL AND consumer IN ({_marks(names)})"  # noqa: S608
        rows = self._rows(query, lambda row: CertificateRow(*row), tuple(names))
        return {row.consumer: row.not_after for row in rows}

    def _invitations_of(self, names: Collection[str]) -> dict[str, InvitationRow]:
        query = f"SELECT * FROM invitations WHERE consumer IN ({_marks(names)}) ORDER BY created"  # noqa: S608
        rows = self._rows(query, lambda row: InvitationRow(*row), tuple(names))
        return {row.consumer: row for row in rows}

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

    def invitation(self, identifier: str) -> InvitationRow | None:
        """Return an invitation."""
        query = "SELECT * FROM invitations WHERE id = ?"
        return next(iter(self._rows(query, lambda row: InvitationRow(*row), (identifier,))), None)

    def last_invitation_ends(self, now: float) -> float | None:
        """Return the end of the last invitation; see `ConsumerStore.last_invitation_ends`."""
        query = "SELECT max(expires) FROM invitations WHERE expires > ? AND created <= ?"
        return self._rows(
            query, lambda row: None if row[0] is None else float(row[0]), (now, now + CLOCK_SLACK_S)
        )[0]

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

    def renew(self, certificate: CertificateRow) -> bool:
        """Write a newer certificate for a key that is known and not revoked; False when there is none such."""
        with self.transaction() as db:
            renewed = db.execute(
                "UPDATE certificates SET earlier_end = max(earlier_end, not_after), serial = ?, not_after = ?"
                " WHERE spki = ? AND consumer = ? AND revoked_at IS NULL",
                (certificate.serial, certificate.not_after, certificate.spki, certificate.consumer),
            )
        return renewed.rowcount == 1

    def rekey(self, consumer: str, kept: str, new: CertificateRow | None, now: float) -> None:
        """Revoke a consumer's certificates but that of the key `kept`, and add a new one."""
        with self.transaction() as db:
            db.execute(
                "UPDATE certificates SET revoked_at = ? WHERE consumer = ? AND spki <> ? AND revoked_at IS NULL",
                (now, consumer, kept),
            )
            if new:
                values = (new.spki, consumer, new.serial, new.not_after)
                db.execute("INSERT INTO certificates VALUES (?, ?, ?, ?, NULL, 0)", values)

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

    # ---- quota -------------------------------------------------------------------------------------------

    def lease(self, wanted: Mapping[str, QuotaState]) -> Mapping[str, QuotaState]:
        """Write many reservations in one durable commit; all are granted."""
        rows = [(consumer, json.dumps(asdict(state))) for consumer, state in wanted.items()]
        with self.transaction() as db:
            db.executemany("INSERT OR REPLACE INTO quota VALUES (?, ?)", rows)
        return wanted

    def leased(self, consumer: str) -> QuotaState | None:
        """Return a consumer's last reservation, None if it has none."""
        query = "SELECT consumer, state FROM quota WHERE consumer = ?"
        return next((state for _, state in self._rows(query, quota_from, (consumer,))), None)


def _marks(values: Collection[object]) -> str:
    return ",".join("?" * len(values))


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
