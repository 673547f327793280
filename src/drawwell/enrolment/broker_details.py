"""Facts of a broker for the machines that join it."""

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BrokerDetails:
    """What a joining machine must know of the broker.

    `enrol_address` and `addresses` are ``host:port`` as seen from there, the first empty where
    none can join. `configured` are the consumers of the configuration, whose names no
    invitation may have. `ssh`: there is an SSH door.
    """

    broker: str
    enrol_address: str
    addresses: tuple[str, ...]
    configured: Collection[str] = ()
    ssh: bool = False
