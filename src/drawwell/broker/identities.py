"""Identities and terms of peers, as determined by the configuration."""

import os
from collections.abc import Mapping

from drawwell.authorisation import DRAW, SPEAK, DoorKind, Principal, Role, may
from drawwell.broker.account import Terms
from drawwell.config.broker_side import ConsumerSection
from drawwell.config.defaults import LOCAL
from drawwell.config.model import Config
from drawwell.enrolment.patterns import first_match
from drawwell.enrolment.registry import InvitedRegistry
from drawwell.entropy.blocks import DrawClass
from drawwell.state.rows import ConsumerRow

KERNEL = "kernel"
OWN_NAMES = frozenset({LOCAL, KERNEL})
"""Names reserved for this machine. No certificate or invitation may use them."""
_BOTH = frozenset(DrawClass)


def local_consumer(config: Config, uid: int) -> str:
    """Return the consumer name of a local user.

    Raises:
        PermissionRefused: the user has no consumer.
    """
    identity = Principal(Role.OWNER, LOCAL) if _ours(uid) else Principal(Role.STRANGER, f"user ID {uid}")
    if uid == config.kernel.uid:
        identity = Principal(Role.CONSUMER, KERNEL)
    for consumer in config.consumers:
        if consumer.uid == uid:
            identity = Principal(Role.CONSUMER, consumer.name)
    may(DoorKind.UNIX, identity, DRAW)
    return identity.name


def link_consumer(config: Config, uid: int) -> str:
    """Return the consumer name of a local user at the link's socket.

    A link serves only root, its own user and the kernel feeder.

    Raises:
        PermissionRefused: any other user.
    """
    if uid == config.kernel.uid:
        return KERNEL
    role = Role.OWNER if _ours(uid) else Role.STRANGER
    may(DoorKind.LINK, Principal(role, f"user ID {uid}"), DRAW)
    return LOCAL


def ssh_consumer(config: Config, registry: InvitedRegistry, uid: int, name: str, key: str) -> str:
    """Check that the SSH key belongs to consumer `name`; return the name.

    Raises:
        PermissionRefused: user `uid` may not act for consumers, or the key does not match.
    """
    role = Role.SPEAKER if speaks_for_consumers(config, uid) else Role.STRANGER
    may(DoorKind.SSH, Principal(role, f"user ID {uid}"), SPEAK)
    return registry.check_key(name, key)


def speaks_for_consumers(config: Config, uid: int) -> bool:
    """Return whether a user may act for consumers at the SSH door."""
    return _ours(uid) or uid == config.ssh.uid


def configured_terms(config: Config) -> dict[str, Terms]:
    """Return the terms of all configured and local consumers."""
    terms = {LOCAL: Terms(_BOTH, None, None)}
    if config.kernel.feed or (config.feeds_apart and config.kernel.uid is not None):
        terms[KERNEL] = Terms(_BOTH, None, None)
    return terms | {each.name: _terms(each) for each in config.consumers if each.name}


def matched_terms(config: Config, name: str) -> Terms | None:
    """Return the terms of a consumer whose name matches a pattern, or None."""
    sections = [each for each in config.consumers if each.match]
    place = first_match(config.pki.identity, (each.match for each in sections), name)
    return None if place is None else _terms(sections[place])


def patterns(config: Config) -> tuple[str, ...]:
    """Return the patterns that admit consumers, in the configured order."""
    return tuple(each.match for each in config.consumers if each.match)


def _terms(section: ConsumerSection) -> Terms:
    classes = _BOTH if section.draw_class == "both" else frozenset({DrawClass(section.draw_class)})
    return Terms(classes, section.rate, section.quota, section.weight, section.stream)


def invited_terms(row: ConsumerRow) -> Terms:
    """Return an invited consumer's terms."""
    return Terms(row.classes, row.rate, row.quota, stream=row.stream)


def own_consumers(config: Config) -> frozenset[str]:
    """Return the consumers that exist on this machine only, even in a fleet."""
    users = {each.name for each in config.consumers if each.user}
    return OWN_NAMES | users | {egd.consumer for egd in config.egds}


def certificate_names(config: Config) -> Mapping[str, str]:
    """Return the consumers with certificates from the owner's own PKI."""
    return {each.name: each.name for each in config.consumers if each.name and each.name not in OWN_NAMES}


def _ours(uid: int) -> bool:
    return uid in {0, os.geteuid()}
