"""The tables of the broker's state, as a series of migrations."""

from typing import Final

MIGRATIONS: Final = (
    """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value NOT NULL);
    CREATE TABLE consumers (
        name TEXT PRIMARY KEY, rate TEXT, quota TEXT, classes TEXT NOT NULL, created REAL NOT NULL, revoked_at REAL);
    CREATE TABLE invitations (
        id TEXT PRIMARY KEY, consumer TEXT NOT NULL REFERENCES consumers, secret_hash BLOB NOT NULL,
        created REAL NOT NULL, expires REAL NOT NULL, status TEXT NOT NULL, used_at REAL,
        wrong_tries INTEGER NOT NULL DEFAULT 0);
    CREATE TABLE certificates (
        spki TEXT PRIMARY KEY, consumer TEXT NOT NULL REFERENCES consumers, serial TEXT NOT NULL,
        not_after REAL NOT NULL, revoked_at REAL);
    CREATE TABLE quota (consumer TEXT PRIMARY KEY, state TEXT NOT NULL);
    """,
    """
    ALTER TABLE consumers ADD COLUMN stream INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE consumers ADD COLUMN ssh_key TEXT NOT NULL DEFAULT '';
    """,
    """
    CREATE TABLE seeds (
        machine TEXT PRIMARY KEY, count INTEGER NOT NULL, written_at REAL NOT NULL, serial INTEGER);
    """,
    """
    CREATE TABLE guests (
        name TEXT PRIMARY KEY, rate TEXT, quota TEXT, classes TEXT NOT NULL, created REAL NOT NULL,
        kind TEXT NOT NULL, via TEXT NOT NULL, uid INTEGER, gid INTEGER);
    """,
    """
    ALTER TABLE consumers ADD COLUMN bare_line TEXT NOT NULL DEFAULT '';
    UPDATE consumers SET bare_line = 'unjudged' WHERE ssh_key <> '' AND revoked_at IS NULL;
    """,
    "ALTER TABLE invitations ADD COLUMN used_from TEXT NOT NULL DEFAULT '';",
    "ALTER TABLE certificates ADD COLUMN earlier_end REAL NOT NULL DEFAULT 0;",
    """
    CREATE INDEX certificates_of ON certificates (consumer);
    CREATE INDEX invitations_of ON invitations (consumer);
    CREATE INDEX invitations_by_status ON invitations (status, expires);
    CREATE INDEX invitations_by_end ON invitations (expires);
    CREATE INDEX consumers_by_key ON consumers (ssh_key) WHERE ssh_key <> '';
    CREATE INDEX consumers_by_line ON consumers (bare_line) WHERE bare_line <> '';
    """,
)
"""Script n (from 0) upgrades the schema to version n + 1. Released scripts never change."""
