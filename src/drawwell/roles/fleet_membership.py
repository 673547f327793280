"""Load fleet membership only for a broker with [fleet]."""

from typing import TYPE_CHECKING

from drawwell.config.model import Config
from drawwell.enrolment.ca import SigningKeys
from drawwell.links.signer import RemoteKeys

if TYPE_CHECKING:
    from drawwell.fleet.membership import FleetMembership


def fleet_membership(config: Config, keys: SigningKeys) -> "FleetMembership | None":
    """Return the membership if the broker is in a fleet and has a signer."""
    if not config.fleet.store or config.pki.ca or not isinstance(keys, RemoteKeys):
        return None
    from drawwell.fleet.membership import FleetMembership  # noqa: PLC0415 - needs psycopg

    return FleetMembership(config, keys)
