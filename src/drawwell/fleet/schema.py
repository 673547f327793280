"""Create the fleet's database, or migrate it to this version's schema."""

from importlib import resources
from typing import Any, Final

import psycopg
from psycopg import sql

from drawwell.errors import StateUnavailable

MIGRATIONS: Final = ("schema.sql",)
"""Script n changes the schema to version n + 1 and never removes anything."""
VERSION: Final = len(MIGRATIONS)
OLDEST: Final = 1
"""The lowest broker version that can use this schema."""


def install(owner: psycopg.Connection[Any], fleet: str, role: str, owner_at: str = "") -> None:
    """Create or migrate the schema, and the group of the brokers' roles.

    Args:
        owner: A connection of the owner's role, which may create schemas and roles; it is in
            autocommit mode.
        fleet: The fleet's name.
        role: The group of the brokers' roles; broker b has the role ROLE_b.
        owner_at: The broker on this machine. The machine has the owner's role.

    Raises:
        StateUnavailable: the database belongs to another fleet, role or newer version.
        psycopg.Error: the database refused; nothing has changed.
    """
    with owner.transaction():
        version = _version(owner, fleet, role)
        for script in MIGRATIONS[version:]:
            owner.execute(resources.files(__package__).joinpath(script).read_bytes())
        owner.execute(
            "INSERT INTO drawwell.fleet (name, version, oldest, role, owner_at) VALUES (%s, %s, %s, %s, %s)"
            " ON CONFLICT (one) DO UPDATE SET version = excluded.version, oldest = excluded.oldest,"
            " owner_at = CASE WHEN excluded.owner_at = '' THEN fleet.owner_at ELSE excluded.owner_at END",
            (fleet, VERSION, OLDEST, role, owner_at),
        )
        names = {"role": sql.Identifier(role), "database": sql.Identifier(owner.info.dbname)}
        if not has_role(owner, role):
            owner.execute(sql.SQL("CREATE ROLE {role}").format(**names))
        owner.execute("SELECT drawwell.admit_role(%s)", (role,))
        owner.execute(sql.SQL("REVOKE ALL ON DATABASE {database} FROM PUBLIC").format(**names))
        owner.execute(sql.SQL("GRANT CONNECT ON DATABASE {database} TO {role}").format(**names))


def has_role(owner: psycopg.Connection[Any], role: str) -> bool:
    """Return whether the database server has a role."""
    return owner.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone() is not None


def _version(owner: psycopg.Connection[Any], fleet: str, role: str) -> int:
    found = owner.execute("SELECT to_regclass('drawwell.fleet')::text").fetchone()
    if not found or found[0] is None:
        return 0
    row = owner.execute("SELECT name, version, role FROM drawwell.fleet").fetchone()
    name, version, brokers = row or (fleet, VERSION, role)
    if name != fleet:
        raise StateUnavailable(
            f"the database belongs to the fleet {name!r}, not to {fleet!r}",
            hint="Use another database, or that fleet's name.",
        )
    if brokers != role:
        raise StateUnavailable(
            f"the brokers of this fleet have the role {brokers!r}, not {role!r}",
            hint=f"Add --role {brokers}.",
        )
    if version > VERSION:
        raise StateUnavailable(
            f"the database has schema version {version}, but this drawwell supports only {VERSION}",
            hint="Install a newer drawwell on this machine.",
        )
    return int(version)
