"""Rows of the broker's state, as frozen dataclasses."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from drawwell.entropy.blocks import DrawClass
from drawwell.entropy.quota import QuotaState
from drawwell.units import Allowance

PENDING: Final = "pending"
USED: Final = "used"
EXPIRED: Final = "expired"
VOID: Final = "void"

UNJUDGED: Final = "unjudged"
ADMITTED: Final = "admitted"
REFUSED: Final = "refused"


@dataclass(frozen=True, slots=True)
class ConsumerRow:
    """A consumer that was invited or has joined; None means no limit.

    `ssh_key` is ``kind base64``, "" for none. `bare_line` is set if an older release wrote the
    consumer's SSH forced command without a key. It is admitted, refused or undecided.
    """

    name: str
    rate: Allowance | None
    quota: Allowance | None
    classes: frozenset[DrawClass]
    created: float
    revoked_at: float | None = None
    stream: bool = False
    ssh_key: str = ""
    bare_line: str = ""


@dataclass(frozen=True, slots=True)
class InvitationRow:
    """An invitation. `status` is pending, used, expired or void.

    Void means revoked, or tried too many times with a wrong secret.
    """

    id: str
    consumer: str
    secret_hash: bytes = field(repr=False)
    created: float
    expires: float
    status: str = PENDING
    used_at: float | None = None
    wrong_tries: int = 0
    used_from: str = ""


@dataclass(frozen=True, slots=True)
class CertificateRow:
    """The newest certificate of a key, `spki` (SHA-256 in hexadecimal).

    `earlier_end` is the latest expiry time of the key's earlier certificates.
    """

    spki: str
    consumer: str
    serial: str
    not_after: float
    revoked_at: float | None = None
    earlier_end: float = 0.0

    @property
    def latest_end(self) -> float:
        """The latest expiry time of all the key's certificates, old and new."""
        return max(self.not_after, self.earlier_end)


@dataclass(frozen=True, slots=True)
class KnownConsumer:
    """A consumer with its certificates by `spki`, revoked ones included."""

    row: ConsumerRow
    certificates: Mapping[str, CertificateRow]


@dataclass(frozen=True, slots=True)
class ListedConsumer:
    """A consumer in a list, with its certificate's expiry and last invitation."""

    row: ConsumerRow
    certificate_expires: float | None
    invitation: InvitationRow | None


@dataclass(frozen=True, slots=True)
class SeedRow:
    """A machine's first-boot seeds: count, first time, last serial number."""

    machine: str
    count: int
    written_at: float
    serial: int | None


@dataclass(frozen=True, slots=True)
class GuestRow:
    """A guest of this machine.

    `uid` and `gid` may also open the guest's socket, unless None. `via` is its attachment.
    """

    consumer: ConsumerRow
    kind: str
    via: str
    uid: int | None = None
    gid: int | None = None

    @property
    def name(self) -> str:
        """The consumer's name."""
        return self.consumer.name


def consumer_from(row: tuple[Any, ...]) -> ConsumerRow:
    """Parse a `consumer_values` row; raise ValueError or TypeError if invalid."""
    name, rate, quota, classes, created, revoked_at, stream, ssh_key, bare_line = row
    allowed = frozenset(DrawClass(word) for word in classes.split("+"))
    return ConsumerRow(
        name,
        _allowance(rate),
        _allowance(quota),
        allowed,
        created,
        revoked_at,
        bool(stream),
        ssh_key,
        bare_line,
    )


def consumer_values(row: ConsumerRow) -> tuple[Any, ...]:
    """Return a consumer as the columns of its table."""
    classes = "+".join(sorted(row.classes))
    return (
        row.name,
        _allowance_json(row.rate),
        _allowance_json(row.quota),
        classes,
        row.created,
        row.revoked_at,
        row.stream,
        row.ssh_key,
        row.bare_line,
    )


def guest_from(row: tuple[Any, ...]) -> GuestRow:
    """Parse a `guest_values` row; raise ValueError or TypeError if invalid."""
    name, rate, quota, classes, created, kind, via, uid, gid = row
    return GuestRow(
        consumer_from((name, rate, quota, classes, created, None, False, "", "")), kind, via, uid, gid
    )


def guest_values(row: GuestRow) -> tuple[Any, ...]:
    """Return a guest as the columns of its table."""
    return (*consumer_values(row.consumer)[:5], row.kind, row.via, row.uid, row.gid)


def quota_from(row: tuple[Any, ...]) -> tuple[str, QuotaState]:
    """Parse a name and reservation; raise ValueError or TypeError if invalid."""
    return row[0], QuotaState(**json.loads(row[1]))


def _allowance_json(allowance: Allowance | None) -> str | None:
    return json.dumps([allowance.limit_bytes, allowance.period_s]) if allowance else None


def _allowance(text: str | None) -> Allowance | None:
    return Allowance(*json.loads(text)) if text else None
