"""Details of a broker for the machines that join it."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from drawwell.config.model import Config
from drawwell.config.values import HostPort
from drawwell.crypto.tokens import format_address
from drawwell.wire.enrolment import FleetReply, JoinRefusal, JoinRequest


@dataclass(frozen=True, slots=True)
class BrokerDetails:
    """The details of a broker that joining machines need.

    `enrol_address` and `addresses` are ``host:port`` as the joining machine reaches them;
    `enrol_address` is "" if machines cannot join. Invitations may not use the names in
    `configured`, the configuration's consumers. `ssh` means that there is an SSH door.
    """

    broker: str
    enrol_address: str
    addresses: tuple[str, ...]
    configured: Collection[str] = ()
    ssh: bool = False


class BrokerAdmission(Protocol):
    """Admission of brokers to a fleet."""

    invited_until: float
    """When the last invitation of a broker ends, in seconds since 1970."""
    trouble: str
    """Why the fleet's root or list of keys cannot be read, or ""."""

    def admit(self, request: JoinRequest) -> FleetReply | JoinRefusal:
        """Answer a joining broker; raises StateUnavailable."""


def details_of(config: Config, joinable: HostPort | None, names: Collection[str]) -> BrokerDetails:
    """Return a broker's details from its configuration.

    Args:
        config: The broker's configuration.
        joinable: The address of the broker's TLS door, or None if machines cannot join.
        names: The consumers in the configuration.
    """
    host, enrol = config.tls.names[0], config.enrol.listen
    port = enrol.port if enrol else 0
    return BrokerDetails(
        broker=config.broker.name,
        enrol_address=format_address(host, port) if joinable else "",
        addresses=config.tls.addresses if joinable else (),
        configured=names,
        ssh=bool(config.ssh.user),
    )
