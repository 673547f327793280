"""The consumers of a fleet: each method calls one database function."""

import re
from collections.abc import Callable
from typing import Any, Final

from psycopg.types.json import Jsonb

from drawwell.entropy.blocks import DrawClass
from drawwell.errors import PermissionRefused, StateUnavailable
from drawwell.fleet.connection import Address, StoreConnection
from drawwell.state.overdue import OverdueWrites
from drawwell.state.port import Changes
from drawwell.state.rows import (
    CertificateRow,
    ConsumerRow,
    InvitationRow,
    KnownConsumer,
    ListedConsumer,
    SeedRow,
)
from drawwell.state.store import CLOCK_SLACK_S
from drawwell.units import Allowance

_MOST: Final = 2**62
"""A number of bytes that no real limit exceeds and that fits into a column."""
_US: Final = 10**6


class PostgresStore:
    """The consumers, invitations, certificates and seeds of a fleet.

    See `ConsumerStore`. Methods for the owner raise PermissionRefused on other machines.

    Args:
        address: The store's address with the role of a broker.
        broker: The name of this broker.
        owner: Returns the store's address for the owner's role; None on other machines.

    Raises:
        ConfigError: the address cannot be used.
    """

    def __init__(
        self, address: Address, broker: str, owner: Callable[[], Address | None] = lambda: None
    ) -> None:
        self.overdue = OverdueWrites()
        self._broker = broker
        self._reads = StoreConnection(address, broker)
        self._find_owner = owner
        self._owner: StoreConnection | None = None

    def close(self) -> None:
        """Drop the connections; a running call then fails."""
        self._reads.close()
        if self._owner:
            self._owner.close()

    def next_epoch(self) -> int:
        """Return a number that no broker of the fleet has used."""
        return int(self._reads.call("next_epoch")[0][0])

    # ---- consumers ----------------------------------------------------------------------

    def require_owner(self) -> None:
        """Check that this machine has the role of the fleet's owner."""
        if self._find_owner() is None:
            place = self._reads.call("about")[0][-1]
            raise PermissionRefused(
                f"broker {self._broker} does not have the role of the fleet's owner",
                hint=f"Run this on {place or 'the machine where drawwell fleet init was run'}.",
            )

    def find(self, name: str) -> KnownConsumer | None:
        """Return a consumer with all its certificates."""
        for (found,) in self._reads.call("find", name):
            rows = map(_certificate, found["certificates"])
            return KnownConsumer(_consumer(found["row"]), {row.spki: row for row in rows})
        return None

    def owner_of(self, key: str) -> str | None:
        """Return the consumer for which a key is registered."""
        return next((str(name) for (name,) in self._reads.call("owner_of", key)), None)

    def page(self, pattern: str, after: str, limit: int) -> list[ListedConsumer]:
        """Return a page of consumers, ordered by name."""
        beginning = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
        rows = self._reads.call("page", _regular_expression(pattern or "*"), beginning, after, limit)
        return [
            ListedConsumer(_consumer(row["row"]), row["expires"], _invitation(row["invitation"]))
            for (row,) in rows
        ]

    def count(self) -> int:
        """Return the number of invited consumers that are not revoked."""
        return int(self._reads.call("count_consumers")[0][0])

    def bare_lines(self) -> dict[str, ConsumerRow]:
        """Return, by name, the consumers with an SSH line that lacks a key."""
        rows = (_consumer(row) for (row,) in self._reads.call("bare_lines"))
        return {row.name: row for row in rows}

    def put_consumer(self, consumer: ConsumerRow) -> None:
        """Add a consumer or replace its terms and SSH key; only for the owner."""
        self._owned().call("put_consumer", consumer_json(consumer))

    def change_consumer(self, consumer: ConsumerRow, change: str) -> None:  # noqa: ARG002
        """Replace a consumer in the fleet, or change nothing."""
        self.put_consumer(consumer)

    def revoke(self, name: str, now: float) -> None:
        """Revoke a consumer in the whole fleet; only for the owner."""
        self._owned().call("revoke", name, now)

    # ---- invitations and certificates ---------------------------------------------------

    def invite(self, consumer: ConsumerRow, invitation: InvitationRow) -> None:
        """Write a consumer and its invitation."""
        new = invitation
        self._owned().call(
            "invite", consumer_json(consumer), new.id, new.secret_hash, new.created, new.expires
        )

    def invitation(self, identifier: str) -> InvitationRow | None:
        """Return an invitation."""
        return next((InvitationRow(*row) for row in self._reads.call("invitation", identifier)), None)

    def last_invitation_ends(self, now: float) -> float | None:
        """Return when the last invitation expires."""
        end = self._reads.call("last_invitation_ends", now, CLOCK_SLACK_S)[0][0]
        return None if end is None else float(end)

    def expire_invitations(self, now: float) -> None:
        """Mark invitations that have expired or were created in the future."""
        self._reads.call("expire_invitations", now, CLOCK_SLACK_S)

    def count_wrong_try(self, invitation: str, limit: int) -> None:
        """Count a wrong secret; at `limit`, void the pending invitation."""
        self._reads.call("count_wrong_try", invitation, limit)

    def redeem(
        self, invitation: str, secret: bytes, certificate: CertificateRow, now: float, host: str = ""
    ) -> bool:
        """Redeem an invitation for a certificate."""
        new = certificate
        rows = self._reads.call("redeem", invitation, secret, new.spki, new.serial, new.not_after, now, host)
        return bool(rows[0][0])

    def renew(self, certificate: CertificateRow) -> bool:
        """Write a newer certificate for a key."""
        new = certificate
        return bool(self._reads.call("renew", new.spki, new.consumer, new.serial, new.not_after)[0][0])

    def rekey(self, consumer: str, kept: str, new: CertificateRow | None, now: float) -> None:
        """Revoke a consumer's certificates except `kept`, and add a new one."""
        values = (new.spki, new.serial, new.not_after) if new else (None, None, None)
        self._reads.call("rekey", consumer, kept, *values, now)

    # ---- seeds --------------------------------------------------------------------------

    def claim_seed(self, machine: str, now: float, *, again: bool) -> SeedRow | None:
        """Record, once in the fleet, that a seed is about to be written."""
        rows = self._reads.call("claim_seed", machine, now, again)
        return next((SeedRow(*row[:4]) for row in rows), None)

    def settle_seed(self, machine: str, serial: int | None) -> None:
        """Record the serial number of the grant; None withdraws the claim."""
        self._reads.call("settle_seed", machine, serial)

    # ---- changes ------------------------------------------------------------------------

    def changes(self, after: int) -> Changes:
        """Return the consumers that changed after change number `after`."""
        return changes_after(self._reads, after)

    def _owned(self) -> StoreConnection:
        self.require_owner()
        if self._owner is None and (address := self._find_owner()):
            self._owner = StoreConnection(address, f"{self._broker} owner")
        assert self._owner  # noqa: S101  required above
        return self._owner


def changes_after(connection: StoreConnection, after: int) -> Changes:
    """Return the consumers that changed after change number `after`."""
    last, gap, names = connection.call("changes", after)[0]
    if last is None:
        raise StateUnavailable("the database has no fleet", hint="Run 'drawwell fleet init'.")
    return Changes(int(last), tuple(names), complete=not gap)


def _regular_expression(glob: str) -> str:
    """Translate a glob into a PostgreSQL regular expression."""
    known = {"*": ".*", "?": "."}
    parts = re.findall(r"\[\^?\]?[^\]]*\]|.", glob)
    return f"^{''.join(known.get(part) or (part if part[1:] else re.escape(part)) for part in parts)}$"


def _consumer(row: dict[str, Any]) -> ConsumerRow:
    return ConsumerRow(
        row["name"],
        _allowance(row["rate"], row["rate_us"]),
        _allowance(row["quota"], row["quota_us"]),
        frozenset(map(DrawClass, row["classes"].split("+"))),
        row["created"],
        row["revoked_at"],
        row["stream"],
        row["ssh_key"],
        row["bare_line"],
    )


def consumer_json(row: ConsumerRow) -> Jsonb:
    """Convert a consumer to the format of ``put_consumer``."""
    rate, rate_us = limits(row.rate)
    quota, quota_us = limits(row.quota)
    return Jsonb(
        {
            "name": row.name,
            "rate": rate,
            "rate_us": rate_us,
            "quota": quota,
            "quota_us": quota_us,
            "classes": "+".join(sorted(row.classes)),
            "created": row.created,
            "revoked_at": row.revoked_at,
            "stream": row.stream,
            "ssh_key": row.ssh_key,
            "bare_line": row.bare_line,
        }
    )


def limits(allowance: Allowance | None) -> tuple[int | None, int | None]:
    """Return an allowance's bytes and microseconds; None for no limit."""
    if allowance is None:
        return None, None
    return min(allowance.limit_bytes, _MOST), min(round(allowance.period_s * _US), _MOST)


def _allowance(limit: int | None, period_us: int | None) -> Allowance | None:
    return Allowance(limit, period_us / _US) if limit is not None and period_us else None


def _certificate(row: dict[str, Any]) -> CertificateRow:
    return CertificateRow(
        row["spki"], row["consumer"], row["serial"], row["not_after"], row["revoked_at"], row["earlier_end"]
    )


def _invitation(row: dict[str, Any] | None) -> InvitationRow | None:
    return InvitationRow(**{**row, "secret_hash": bytes.fromhex(row["secret_hash"][2:])}) if row else None
