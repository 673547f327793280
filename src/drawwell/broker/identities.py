"""Who a peer is, and what each consumer may have, as far as the configuration says it."""

import os
from collections.abc import Mapping

from drawwell.authorisation import DRAW, SPEAK, DoorKind, Principal, Role, may
from drawwell.broker.account import Terms
from drawwell.config.defaults import LOCAL
from drawwell.config.model import Config
from drawwell.enrolment.registry import InvitedRegistry
from drawwell.entropy.blocks import DrawClass
from drawwell.state.rows import ConsumerRow

KERNEL = "kernel"
OWN_NAMES = frozenset({LOCAL, KERNEL})
"""Who draws under these names is on this machine: no certificate and no invitation bears one."""
_BOTH = frozenset(DrawClass)


def local_consumer(config: Config, uid: int) -> str:
    """Say which consumer a user of this machine is.

    Raises:
        PermissionRefused: none.
    """
    identity = Principal(Role.OWNER, LOCAL) if _ours(uid) else Principal(Role.STRANGER, f"user number {uid}")
    if uid == config.kernel.uid:
        identity = Principal(Role.CONSUMER, KERNEL)
    for consumer in config.consumers:
        if consumer.uid == uid:
            identity = Principal(Role.CONSUMER, consumer.name)
    may(DoorKind.UNIX, identity, DRAW)
    return identity.name


def link_consumer(config: Config, uid: int) -> str:
    """Say who a user of this machine is at the link's socket: root, the link's own user, or the kernel's feed.

    Nobody else has terms there that anybody would keep.

    Raises:
        PermissionRefused: nobody.
    """
    if uid == config.kernel.uid:
        return KERNEL
    role = Role.OWNER if _ours(uid) else Role.STRANGER
    may(DoorKind.LINK, Principal(role, f"user number {uid}"), DRAW)
    return LOCAL


def ssh_consumer(config: Config, registry: InvitedRegistry, uid: int, name: str, key: str) -> str:
    """Identify the consumer `name` that the user `uid` speaks for, by its key's fingerprint.

    Raises:
        PermissionRefused: that user speaks for no consumer, or the key is not that consumer's.
    """
    role = Role.SPEAKER if speaks_for_consumers(config, uid) else Role.STRANGER
    may(DoorKind.SSH, Principal(role, f"user number {uid}"), SPEAK)
    return registry.check_key(name, key)


def speaks_for_consumers(config: Config, uid: int) -> bool:
    """Return whether a user may name consumers at the SSH door."""
    return _ours(uid) or uid == config.ssh.uid


def configured_terms(config: Config) -> dict[str, Terms]:
    """Return what the consumers of the configuration may have, and this machine's own."""
    terms = {LOCAL: Terms(_BOTH, None, None)}
    if config.kernel.feed or (config.feeds_apart and config.kernel.uid is not None):
        terms[KERNEL] = Terms(_BOTH, None, None)
    for each in config.consumers:
        classes = _BOTH if each.draw_class == "both" else frozenset({DrawClass(each.draw_class)})
        terms[each.name] = Terms(classes, each.rate, each.quota, each.weight, each.stream)
    return terms


def invited_terms(row: ConsumerRow) -> Terms:
    """Return what a consumer may have that was invited."""
    return Terms(row.classes, row.rate, row.quota, stream=row.stream)


def certificate_names(config: Config) -> Mapping[str, str]:
    """Return the consumers that a certificate of the owner's own PKI may name."""
    return {each.name: each.name for each in config.consumers if each.name not in OWN_NAMES}


def _ours(uid: int) -> bool:
    return uid in {0, os.geteuid()}
