"""The owner's view of the fleet's database: setting it up."""

from types import TracebackType
from typing import Self

import psycopg
from psycopg.conninfo import make_conninfo

from drawwell.errors import ConfigError, StateUnavailable, UsageError
from drawwell.fleet.checks import explain
from drawwell.fleet.connection import attempts, connect
from drawwell.fleet.move import move_consumers
from drawwell.fleet.passwords import new_password, scram_verifier
from drawwell.fleet.schema import has_role, install
from drawwell.fleet.shared_address import SharedAddress, read_address
from drawwell.state.store import Store


class Founding:
    """A connection with the database owner's role; a context manager.

    Args:
        address: The address of the database.

    Raises:
        ConfigError: the address is invalid, or would not verify TLS.
        StateUnavailable: from every method: the database cannot be reached or refuses.
    """

    def __init__(self, address: str) -> None:
        if not address:
            raise ConfigError(
                "an address is required",
                hint="Write it as postgresql://OWNER@HOST/DATABASE?sslmode=verify-full.",
            )
        self._address = address
        self._shared = SharedAddress.of(address)
        self._attempts = attempts(address, "drawwell fleet init")

    def __enter__(self) -> Self:
        """Connect."""
        try:
            self._db = connect(self._attempts)
        except psycopg.OperationalError as error:
            reason, hint = explain(error)
            raise StateUnavailable(f"the fleet's store cannot be reached: {reason}", hint=hint) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect."""
        self._db.close()

    def whole_address(self) -> str:
        """Return the address with its password, for a secret file."""
        password = {"password": self._shared.password} if self._shared.password else {}
        given = read_address(self._address) | password
        given.pop("passfile", None)
        return make_conninfo("", **given)

    def shared(self, role: str, broker: str, kept: str) -> SharedAddress:
        """Return the address for a broker's role, with the password `kept`.

        If `kept` has no password, create one.

        Raises:
            UsageError: the brokers' role exists, but no password for this broker is stored.
        """
        if has_role(self._db, role) and not kept:
            raise UsageError(
                f"the database server has a role {role} of another fleet, or one that another machine created",
                hint="Choose another --role, or join that fleet: 'drawwell fleet join -'.",
            )
        return self._shared.by(f"{role}_{broker}", kept or new_password())

    def admit(self, broker: str, password: str) -> None:
        """Create this broker's role, or set its password."""
        try:
            self._db.execute("SELECT drawwell.admit_broker(%s, %s)", (broker, scram_verifier(password)))
        except psycopg.Error as error:
            raise self._refused(error, self._hint(error)) from error

    def install(self, fleet: str, role: str, owner_at: str) -> None:
        """Create or migrate the fleet's schema; see `schema.install`."""
        try:
            install(self._db, fleet, role, owner_at)
        except psycopg.Error as error:
            raise self._refused(error, self._hint(error)) from error

    def move(self, store: Store) -> int:
        """Move consumers; see `move_consumers`."""
        try:
            return move_consumers(store, self._db)
        except psycopg.Error as error:
            raise self._refused(error, self._hint(error)) from error

    def _hint(self, error: psycopg.Error) -> str:
        name, user = self._db.info.dbname, self._db.info.user
        if "create role" in str(error):
            return f'Have an administrator of the database type: ALTER ROLE "{user}" CREATEROLE'
        return f'Have an administrator type: ALTER DATABASE "{name}" OWNER TO "{user}"'

    @staticmethod
    def _refused(error: psycopg.Error, hint: str) -> StateUnavailable:
        denied = isinstance(error, psycopg.errors.InsufficientPrivilege)
        reason, known = explain(error)
        return StateUnavailable(
            f"the fleet's store refused: {reason}", hint=hint if denied else known or None
        )
