"""The broker's durable state: consumers, guests, reservations and seeds.

Secrets are stored as hashes; entropy and private keys are never stored. A consumer's rows are
found through an index. Only `consumers`, `count` and `all_leased` read all consumers.
"""

import json
import sqlite3
from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Final

from drawwell.crypto.tokens import secret_hash
from drawwell.entropy.quota import DAY_S, QuotaState
from drawwell.state.database import Database
from drawwell.state.port import Changes
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
"""An invitation dated further ahead than this was made with a wrong clock."""
_PAGE: Final = 4096
_DROP: Final = (
    "DELETE FROM quota WHERE consumer BETWEEN ? AND ? AND CASE WHEN json_valid(state)"
    " THEN json_extract(state, '$.period_s') > 0"
    " AND (json_extract(state, '$.period') + 1) * json_extract(state, '$.period_s') <= ? END"
)


class Store(Database):
    """One broker's database file: a `ConsumerStore`, plus its guests.

    Every method can be called from any thread and returns when the change is on disk.
    """

    _dropped_to = ""

    # ---- consumers -----------------------------------------------------------------------

    def require_owner(self) -> None:
        """Do nothing, because this broker owns its consumers."""

    def find(self, name: str) -> KnownConsumer | None:
        """Return a consumer with all its certificates; see `ConsumerStore.find`."""
        with self._lock:
            rows = self._rows("SELECT * FROM consumers WHERE name = ?", consumer_from, (name,))
            row = self._changed.get(name) or next(iter(rows), None)
            return KnownConsumer(row, self.certificates(name)) if row else None

    def owner_of(self, key: str) -> str | None:
        """Return the consumer of a key; see `ConsumerStore.owner_of`."""
        query = "SELECT consumer FROM certificates WHERE spki = ?"
        joined = self._rows(query, lambda row: str(row[0]), (key,))
        query = "SELECT name FROM consumers WHERE ssh_key = ? AND ssh_key <> ''"
        written = self._rows(query, lambda row: str(row[0]), (key,))
        changed = [row.name for row in self._changed.values() if row.ssh_key == key]
        return next(iter((*joined, *changed, *(name for name in written if name not in self._changed))), None)

    def certificates(self, consumer: str) -> dict[str, CertificateRow]:
        """Return a consumer's certificates by `spki`, revoked ones included."""
        query = "SELECT * FROM certificates WHERE consumer = ?"
        rows = self._rows(query, lambda row: CertificateRow(*row), (consumer,))
        return {row.spki: row for row in rows}

    def consumers(self) -> dict[str, ConsumerRow]:
        """Return all consumers by name, revoked ones included, by a full scan."""
        written = self._rows("SELECT * FROM consumers ORDER BY name", consumer_from)
        return {row.name: row for row in written} | self._changed

    def page(self, pattern: str, after: str, limit: int) -> list[ListedConsumer]:
        """Return consumers sorted by name; see `ConsumerStore.page`."""
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
        """Return the consumers with a bare line, by name; see `ConsumerRow`."""
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
        """Add or replace a consumer."""
        with self.transaction() as db:
            _put_consumer(db, consumer)

    def change_consumer(self, consumer: ConsumerRow, change: str) -> None:
        """Replace a consumer immediately; write the change as soon as possible.

        Raises:
            StateUnavailable: the `change` is in effect but not written yet.
        """
        self._changed[consumer.name] = consumer

        def write() -> None:
            if row := self._changed.get(consumer.name):  # the result of all changes so far
                self.put_consumer(row)
                self._changed.pop(consumer.name)

        self.overdue.write(change, write)

    def revoke(self, name: str, now: float) -> None:
        """Revoke a consumer, its certificates, SSH key and invitations."""
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

    # ---- invitations ---------------------------------------------------------------------

    def invitation(self, identifier: str) -> InvitationRow | None:
        """Return an invitation, or None if unknown."""
        query = "SELECT * FROM invitations WHERE id = ?"
        return next(iter(self._rows(query, lambda row: InvitationRow(*row), (identifier,))), None)

    def pending_invitations(self, consumer: str) -> list[InvitationRow]:
        """Return the invitations that a consumer can still use."""
        query = "SELECT * FROM invitations WHERE consumer = ? AND status = ?"
        return self._rows(query, lambda row: InvitationRow(*row), (consumer, PENDING))

    def last_invitation_ends(self, now: float) -> float | None:
        """Return when the last invitation ends; see `ConsumerStore`."""
        query = "SELECT max(expires) FROM invitations WHERE expires > ? AND created <= ?"
        return self._rows(
            query, lambda row: None if row[0] is None else float(row[0]), (now, now + CLOCK_SLACK_S)
        )[0]

    def invite(self, consumer: ConsumerRow, invitation: InvitationRow) -> None:
        """Write a consumer and its invitation; void an earlier pending one."""
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

    def redeem(
        self, invitation: str, secret: bytes, certificate: CertificateRow, now: float, host: str = ""
    ) -> bool:
        """Use up a pending invitation and store its certificate.

        See `ConsumerStore.redeem`.
        """
        with self.transaction() as db:
            used = db.execute(
                "UPDATE invitations SET status = ?, used_at = ?, used_from = ?"
                " WHERE id = ? AND status = ? AND secret_hash = ?",
                (USED, now, host, invitation, PENDING, secret_hash(secret)),
            )
            if used.rowcount == 1:
                _revoke_certificates(db, certificate.consumer, now)
                values = (certificate.spki, certificate.consumer, certificate.serial, certificate.not_after)
                db.execute("INSERT INTO certificates VALUES (?, ?, ?, ?, NULL, 0)", values)
        return used.rowcount == 1

    def count_wrong_try(self, invitation: str, limit: int) -> None:
        """Count a wrong secret; after `limit`, void the invitation."""
        with self.transaction() as db:
            db.execute("UPDATE invitations SET wrong_tries = wrong_tries + 1 WHERE id = ?", (invitation,))
            db.execute(
                "UPDATE invitations SET status = ? WHERE id = ? AND status = ? AND wrong_tries >= ?",
                (VOID, invitation, PENDING, limit),
            )

    def expire_invitations(self, now: float) -> None:
        """Mark invitations that have expired or were made with a fast clock."""
        with self.transaction() as db:
            db.execute(
                "UPDATE invitations SET status = ? WHERE status = ? AND (expires <= ? OR created > ?)",
                (EXPIRED, PENDING, now, now + CLOCK_SLACK_S),
            )

    # ---- certificates --------------------------------------------------------------------

    def renew(self, certificate: CertificateRow) -> bool:
        """Store a newer certificate; return False for an unknown or revoked key."""
        with self.transaction() as db:
            renewed = db.execute(
                "UPDATE certificates SET earlier_end = max(earlier_end, not_after), serial = ?, not_after = ?"
                " WHERE spki = ? AND consumer = ? AND revoked_at IS NULL",
                (certificate.serial, certificate.not_after, certificate.spki, certificate.consumer),
            )
        return renewed.rowcount == 1

    def rekey(self, consumer: str, kept: str, new: CertificateRow | None, now: float) -> None:
        """Revoke a consumer's certificates except that of key `kept`; add `new`."""
        with self.transaction() as db:
            db.execute(
                "UPDATE certificates SET revoked_at = ? WHERE consumer = ? AND spki <> ? AND revoked_at IS NULL",
                (now, consumer, kept),
            )
            if new:
                values = (new.spki, consumer, new.serial, new.not_after)
                db.execute("INSERT INTO certificates VALUES (?, ?, ?, ?, NULL, 0)", values)

    # ---- first-boot seeds ----------------------------------------------------------------

    def claim_seed(self, machine: str, now: float, *, again: bool) -> SeedRow | None:
        """Record that a seed for `machine` is about to be written.

        If there was an earlier seed and `again` is false, returns it and records nothing.
        """
        with self.transaction() as db:
            found = db.execute("SELECT * FROM seeds WHERE machine = ?", (machine,)).fetchone()
            if found and not again:
                return SeedRow(*found)
            restored_at = self._meta("restored_at", 0.0)
            if restored_at and not found and not again:  # the lost state might have had one
                return SeedRow(machine, 1, restored_at, None)
            db.execute(
                "INSERT INTO seeds VALUES (?, 1, ?, NULL) ON CONFLICT (machine) DO UPDATE SET count = count + 1",
                (machine, now),
            )
        return None

    def settle_seed(self, machine: str, serial: int | None) -> None:
        """Record the serial number of the seed's grant, or None to undo the claim."""
        with self.transaction() as db:
            if serial is not None:
                db.execute("UPDATE seeds SET serial = ? WHERE machine = ?", (serial, machine))
            else:
                db.execute("UPDATE seeds SET count = count - 1 WHERE machine = ?", (machine,))
                db.execute("DELETE FROM seeds WHERE machine = ? AND count = 0", (machine,))

    def changes(self, after: int) -> Changes:
        """Return no change, because only one broker uses this file."""
        return Changes(after)

    def seeds(self) -> list[SeedRow]:
        """Return the seeds of all machines."""
        return self._rows("SELECT * FROM seeds ORDER BY machine", lambda row: SeedRow(*row))

    # ---- guests --------------------------------------------------------------------------

    def guests(self) -> dict[str, GuestRow]:
        """Return all guests by name."""
        return {row.name: row for row in self._rows("SELECT * FROM guests ORDER BY name", guest_from)}

    def put_guest(self, guest: GuestRow) -> bool:
        """Add or replace a guest; return False if a consumer has the same name."""
        with self.transaction() as db:
            put = db.execute(
                "INSERT OR REPLACE INTO guests SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?"
                " WHERE NOT EXISTS (SELECT 1 FROM consumers WHERE name = ? AND revoked_at IS NULL)",
                (*guest_values(guest), guest.name),
            )
        return put.rowcount == 1

    def remove_guest(self, name: str) -> None:
        """Remove a guest; its reservation stays."""
        with self.transaction() as db:
            db.execute("DELETE FROM guests WHERE name = ?", (name,))

    # ---- quota ---------------------------------------------------------------------------

    def lease(self, wanted: Mapping[str, QuotaState]) -> Mapping[str, QuotaState]:
        """Write many reservations in one durable commit; return them."""
        rows = [(consumer, json.dumps(asdict(state))) for consumer, state in wanted.items()]
        with self.transaction() as db:
            db.executemany("INSERT OR REPLACE INTO quota VALUES (?, ?)", rows)
        return wanted

    def leased(self, consumer: str) -> QuotaState | None:
        """Return a consumer's last reservation, or None if it has none."""
        query = "SELECT consumer, state FROM quota WHERE consumer = ?"
        return next((state for _, state in self._rows(query, quota_from, (consumer,))), None)

    def drop_ended(self, now: float) -> None:
        """Delete outdated reservations, one page per call.

        A day after its period a reservation has no effect: a new total applies, and the bucket
        of a rate is full.
        """
        with self.transaction() as db:
            page = "SELECT consumer FROM quota WHERE consumer > ? ORDER BY consumer LIMIT ?"
            names = [name for (name,) in db.execute(page, (self._dropped_to, _PAGE))]
            if names:
                db.execute(_DROP, (names[0], names[-1], now - DAY_S))
        self._dropped_to = names[-1] if len(names) == _PAGE else ""

    def all_leased(self) -> list[str]:
        """Return all consumers that have a reservation, by a full scan."""
        return self._rows("SELECT consumer FROM quota ORDER BY consumer", lambda row: str(row[0]))


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
