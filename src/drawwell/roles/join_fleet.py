"""Load the fleet code only for a broker with [fleet]."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from drawwell.config.model import Config
from drawwell.errors import MissingExtra
from drawwell.fleet.own_row import OwnRow
from drawwell.state.port import Changes

if TYPE_CHECKING:
    from drawwell.fleet.member import FleetMember


def join_fleet(
    config: Config,
    follow: Callable[[Changes], Awaitable[None]],
    clock: Callable[[], float],
    describe: Callable[[], OwnRow],
) -> "FleetMember | None":
    """Return this broker's fleet membership; None without [fleet].

    Raises:
        MissingExtra: psycopg is not installed.
        ConfigError, StateUnavailable: as for `FleetMember`.
    """
    if not config.fleet.store:
        return None
    try:
        from drawwell.fleet.member import FleetMember
    except ImportError as error:
        raise MissingExtra(
            f"a broker in a fleet requires psycopg: {error}",
            hint="apt install python3-psycopg, or pip install 'drawwell[fleet]'.",
        ) from error
    return FleetMember(config, follow, clock, describe)
