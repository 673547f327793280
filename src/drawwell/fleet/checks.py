"""Check the store before leasing from it, and explain its errors."""

import time
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from drawwell.errors import StateUnavailable
from drawwell.fleet.schema import VERSION

CLOCKS_APART_S: Final = 3600.0
"""A larger difference between store and broker means that one clock was never set."""
_JOIN_AGAIN: Final = (
    "A broker that was removed can join again with a new invitation from 'drawwell fleet invite'."
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The configuration's requirements; `fleet` is "" for any fleet."""

    fleet: str = ""
    allow_async: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """A store's report about itself.

    Args:
        fleet: The fleet's name.
        version: The version of the schema.
        clock_ahead_s: The store's clock minus this machine's.
        standbys: The number of servers that currently receive the store's log.
        synchronous: The value of ``synchronous_standby_names``; "" for none.
        too_much: Rights that the role should not have; "" for none.
        owner_at: The broker on the machine with the owner's role; "" if unknown.
    """

    fleet: str
    version: int
    clock_ahead_s: float
    standbys: int
    synchronous: str
    too_much: str
    owner_at: str

    @property
    def replication(self) -> str:
        """The replication: ``single``, ``synchronous`` or ``asynchronous``."""
        if self.synchronous:
            return "synchronous"
        return "asynchronous" if self.standbys else "single"


def standing_of(row: tuple[Any, ...]) -> Standing:
    """Parse the result of `about`; raise StateUnavailable if it is empty."""
    if row[0] is None:
        raise StateUnavailable("the database has no fleet", hint="Run 'drawwell fleet init'.")
    name, version, _oldest, now_s, standbys, synchronous, _commits, too_much, owner_at = row
    return Standing(name, version, float(now_s) - time.time(), standbys, synchronous, too_much, owner_at)


def judge(row: tuple[Any, ...], wanted: Wanted, waiting: int = 0) -> Standing:
    """Check the store; `waiting`: our commits that wait for a standby.

    Raises:
        StateUnavailable: the store cannot be used; the error has a hint.
    """
    standing = standing_of(row)
    name, version, oldest = row[:3]
    if wanted.fleet and name != wanted.fleet:
        raise StateUnavailable(
            f"the store belongs to the fleet {name!r}, not to {wanted.fleet!r}",
            hint="Correct [fleet] store or [fleet] name.",
        )
    if oldest > VERSION:
        raise StateUnavailable(
            f"the store's schema has version {version}, but this drawwell supports only {VERSION}",
            hint="Install a newer drawwell on this machine.",
        )
    if version < VERSION:
        raise StateUnavailable(
            f"the store's schema has version {version}, but this drawwell requires {VERSION}",
            hint="Run 'drawwell fleet init' with this version on the owner's machine.",
        )
    if abs(standing.clock_ahead_s) > CLOCKS_APART_S:
        raise StateUnavailable(
            f"the store's clock is {abs(standing.clock_ahead_s) / 3600:.0f} hours "
            f"{'ahead of' if standing.clock_ahead_s > 0 else 'behind'} this machine's",
            hint="Set both clocks; timedatectl shows whether a clock is synchronized.",
        )
    if standing.replication == "asynchronous" and not wanted.allow_async:
        raise StateUnavailable(
            "the store has an asynchronous standby, so quotas may be exceeded if the store fails",
            hint="Set synchronous_standby_names in PostgreSQL (Patroni: synchronous_mode and "
            "synchronous_mode_strict), or [fleet] allow_async = true.",
        )
    if waiting:
        raise StateUnavailable(
            "an earlier write still waits for the synchronous standby",
            hint="Start the standby, or let the cluster manager replace it.",
        )
    return standing


_HINTS: Final = (
    (
        "certificate verify failed",
        "Check that sslrootcert contains the CA of the store's certificate, and that neither has expired.",
    ),
    ("does not match host name", "Use the name in the store's certificate as the host."),
    ("does not support SSL", "Enable TLS in PostgreSQL: ssl = on in postgresql.conf."),
    ("root certificate file", "Set sslrootcert to the file with the store's CA."),
    ("no pg_hba.conf entry", f"Add a hostssl line for this role to PostgreSQL's pg_hba.conf. {_JOIN_AGAIN}"),
    (
        "password",
        "Check the password in the address, or in the file that passfile= names; the file must have mode 0600.",
    ),
    ("does not exist", "Check [fleet] store, and run 'drawwell fleet init' if the database is new."),
    ("permission denied", _JOIN_AGAIN),
    ("could not translate host name", "Check the host in [fleet] store and the name service."),
    ("read-only", "No host of [fleet] store accepts writes: wait for a standby to be promoted."),
)
"""Parts of libpq's messages, most specific first, with a hint for each."""


def explain(error: Exception) -> tuple[str, str]:
    """Return in one line why the store cannot be used, and a hint."""
    if isinstance(error, StateUnavailable):
        return str(error), error.hint or ""
    if isinstance(error, psycopg.errors.UndefinedTable | psycopg.errors.InvalidSchemaName):
        return "the database has no fleet", "Run 'drawwell fleet init'."
    if "is not permitted to log in" in str(error):
        return "this broker was removed from its fleet", _JOIN_AGAIN
    lines = str(error).strip().splitlines() or [type(error).__name__]
    found = ((line.strip(), hint) for part, hint in _HINTS for line in lines if part in line)
    return next(found, (lines[0], ""))
