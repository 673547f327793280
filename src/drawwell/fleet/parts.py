"""The parts of a broker in a fleet, created from its configuration."""

from drawwell.config.model import Config
from drawwell.errors import ConfigError
from drawwell.fleet.checks import Standing, Wanted, standing_of
from drawwell.fleet.connection import Address, StoreConnection
from drawwell.fleet.store import PostgresStore


def store_address(config: Config) -> Address:
    """Return the store's address and the requirements for the store."""
    fleet = config.fleet
    return Address(fleet.store, Wanted(fleet.name, fleet.allow_async))


def owner_address(config: Config) -> Address | None:
    """Return the store's address for the owner's role; None if there is none.

    Raises:
        ConfigError: the file contains no address.
    """
    try:
        with open(config.fleet.owner, encoding="utf-8") as file:
            text = file.read().strip()
    except (FileNotFoundError, PermissionError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot read {config.fleet.owner}: {error}", hint="Run 'drawwell fleet init' again."
        ) from error
    return Address(text, Wanted(config.fleet.name, config.fleet.allow_async)) if text else None


def open_store(config: Config) -> PostgresStore:
    """Return the store of the fleet's consumers; can raise ConfigError."""
    return PostgresStore(store_address(config), config.broker.name, lambda: owner_address(config))


def ask_store(config: Config) -> Standing:
    """Connect once, and return the store's report.

    Raises:
        ConfigError, StateUnavailable: the store cannot be used.
    """
    connection = StoreConnection(store_address(config), "doctor", writes=False)
    try:
        return standing_of(connection.call("about")[0])
    finally:
        connection.close()
