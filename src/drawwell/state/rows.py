"""Rows of the broker's state: frozen, and read back exactly as they were written."""

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
    """A consumer that may be invited or has joined. None means no limit; `ssh_key` is ``kind base64``, "" for none.

    `bare_line` is for consumers of earlier releases, whose SSH forced command names no key: whether it is admitted,
    refused or not judged yet; "" when their line was printed by this release.
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
    """An invitation. `status` is pending, used, expired, or void (revoked, or tried too often)."""

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
    """The newest certificate for one key. `spki` is SHA-256 of the public key in hexadecimal.

    `earlier_end` is the latest end of those that it replaced.
    """

    spki: str
    consumer: str
    serial: str
    not_after: float
    revoked_at: float | None = None
    earlier_end: float = 0.0

    @property
    def latest_end(self) -> float:
        """The end that renewal goes by: a clock that was behind brings it no nearer."""
        return max(self.not_after, self.earlier_end)


@dataclass(frozen=True, slots=True)
class KnownConsumer:
    """A consumer with its certificates by `spki`, revoked ones included."""

    row: ConsumerRow
    certificates: Mapping[str, CertificateRow]


@dataclass(frozen=True, slots=True)
class ListedConsumer:
    """A consumer as its operator lists it: when its certificate ends, and its last invitation."""

    row: ConsumerRow
    certificate_expires: float | None
    invitation: InvitationRow | None


@dataclass(frozen=True, slots=True)
class SeedRow:
    """What was written for one machine's first boot: how often, when first, and the last grant's serial number."""

    machine: str
    count: int
    written_at: float
    serial: int | None


@dataclass(frozen=True, slots=True)
class GuestRow:
    """A guest of this machine: the consumer that it is, what runs it, its way in, and who must reach its socket.

    `uid` and `gid` are numbers of this machine, None for the broker's own.
    """

    consumer: ConsumerRow
    kind: str
    via: str
    uid: int | None = None
    gid: int | None = None

    @property
    def name(self) -> str:
        """The consumer's."""
        return self.consumer.name


def consumer_from(row: tuple[Any, ...]) -> ConsumerRow:
    """Read what `consumer_values` wrote; raises ValueError or TypeError for anything else."""
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
    """A consumer as the columns of its table."""
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
    """Read what `guest_values` wrote; raises ValueError or TypeError for anything else."""
    name, rate, quota, classes, created, kind, via, uid, gid = row
    return GuestRow(
        consumer_from((name, rate, quota, classes, created, None, False, "", "")), kind, via, uid, gid
    )


def guest_values(row: GuestRow) -> tuple[Any, ...]:
    """A guest as the columns of its table."""
    return (*consumer_values(row.consumer)[:5], row.kind, row.via, row.uid, row.gid)


def quota_from(row: tuple[Any, ...]) -> tuple[str, QuotaState]:
    """Read a consumer's name and its last reservation; raises ValueError or TypeError for anything else."""
    return row[0], QuotaState(**json.loads(row[1]))


def _allowance_json(allowance: Allowance | None) -> str | None:
    return json.dumps([allowance.limit_bytes, allowance.period_s]) if allowance else None


def _allowance(text: str | None) -> Allowance | None:
    return Allowance(*json.loads(text)) if text else None
