"""Authorisation: what each kind of peer may do at each door.

The door identifies the peer: by its certificate and the registry, by the kernel's report of a
local user, or by the configuration for EGD. The broker limits the amounts. Joining is not
decided here: the enrolment door has a single request, authorised by an invitation's secret.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from drawwell.errors import PermissionRefused, UsageError
from drawwell.verbs import CONTROL_VERBS, Audience, names_for


class DoorKind(StrEnum):
    """A kind of door; protocols that share a port are separate kinds."""

    CONTROL = "the control socket"
    UNIX = "the Unix socket"
    LINK = "the link's socket"
    TLS = "TLS"
    STREAM = "a stream over TLS"
    HTTPS = "HTTP over TLS"
    HTTP = "HTTP on the Unix socket"
    PROBE = "HTTP for probes"
    SSH = "SSH"
    EGD = "EGD"
    USB = "usbredir"
    GUEST = "a guest's socket"
    DEPOSIT = "the sources' socket"


class Role(StrEnum):
    """A peer's role at this broker."""

    OWNER = "owner"
    """Root or the broker's own user, as reported by the kernel."""
    SPEAKER = "speaker"
    """The account that sshd uses to run serve-stdio."""
    SOURCE = "source"
    """The account of the noise source processes."""
    OBSERVER = "observer"
    """Any other local peer that can open a reporting socket."""
    CONSUMER = "consumer"
    EXPIRED = "expired"
    """A consumer whose certificate expired within the grace period."""
    STRANGER = "stranger"


@dataclass(frozen=True, slots=True)
class Principal:
    """An identified peer.

    `name` is the consumer's name, or a description of a peer in another role. `certificate_id`
    is the certificate's ID in the registry (SHA-256 of the public key, in hexadecimal), or "".
    `not_after` is when the certificate expires, in seconds since the epoch; it is set only if
    no registry records the dates.
    """

    role: Role
    name: str
    certificate_id: str = ""
    not_after: float = math.inf


ANYONE: Final = Principal(Role.CONSUMER, "")
"""A nameless consumer, which may only check whether the broker is ready."""


DRAW: Final = "draw"
STIR: Final = "stir"
"""Mix bytes into the consumer's DRBG without credit."""
SPEAK: Final = "speak"
"""Choose the consumer for a session; the broker trusts the choice."""
DEPOSIT: Final = "deposit"
"""Put bytes into the shared reservoir. The depositor knows these bytes."""
RENEW: Final = "renew"
READY: Final = "ready"
"""Check only whether draws can be served now."""
OBSERVE: Final = "observe"
FOR_THE_OWNER: Final = names_for(Audience.OWNER)
FOR_ALL: Final = names_for(Audience.ALL)
"""Verbs for all peers; a consumer receives only its own status."""
_FOR_OBSERVERS: Final = names_for(Audience.OBSERVERS)
VERBS: Final = CONTROL_VERBS.keys() | {DRAW, STIR, SPEAK, DEPOSIT, READY}

_CALLS: Final = FOR_ALL | names_for(Audience.ITSELF)
_STATUS: Final = frozenset({"status"})
_NETWORK: Final = {Role.CONSUMER: _CALLS | _FOR_OBSERVERS | {DRAW}, Role.EXPIRED: frozenset({RENEW})}
_LOCAL: Final = {Role.OWNER: _CALLS | {DRAW}, Role.CONSUMER: _CALLS | {DRAW}}
_HTTP: Final = FOR_ALL | {DRAW, READY}
_PUBLIC: Final = frozenset({READY})
ALLOWED: Final[Mapping[DoorKind, Mapping[Role, frozenset[str]]]] = {
    # calls from all doors are also checked in this row, so it allows all that any door allows
    DoorKind.CONTROL: _LOCAL
    | _NETWORK
    | {Role.OWNER: _CALLS | _FOR_OBSERVERS | FOR_THE_OWNER | {DRAW}, Role.OBSERVER: _STATUS},
    DoorKind.UNIX: _LOCAL,
    DoorKind.LINK: {
        Role.OWNER: FOR_ALL | {DRAW},
        Role.CONSUMER: FOR_ALL | {DRAW},
        Role.OBSERVER: _STATUS,
    },
    DoorKind.TLS: _NETWORK,
    DoorKind.STREAM: {Role.CONSUMER: frozenset({DRAW})},
    DoorKind.HTTPS: {Role.CONSUMER: _HTTP | _FOR_OBSERVERS, Role.EXPIRED: _PUBLIC, Role.STRANGER: _PUBLIC},
    DoorKind.HTTP: {
        Role.OWNER: _HTTP | _FOR_OBSERVERS,
        Role.CONSUMER: _HTTP | _FOR_OBSERVERS,
        Role.STRANGER: _PUBLIC,
    },
    DoorKind.PROBE: {Role.STRANGER: _PUBLIC | _FOR_OBSERVERS},
    DoorKind.SSH: {
        Role.OWNER: frozenset({SPEAK}),
        Role.SPEAKER: frozenset({SPEAK}),
        Role.CONSUMER: FOR_ALL | {DRAW},
    },
    DoorKind.EGD: {Role.CONSUMER: frozenset({DRAW, STIR})},
    DoorKind.USB: {Role.CONSUMER: frozenset({DRAW})},
    DoorKind.DEPOSIT: {Role.OWNER: frozenset({DEPOSIT}), Role.SOURCE: frozenset({DEPOSIT})},
    DoorKind.GUEST: {Role.CONSUMER: FOR_ALL | {DRAW}},
}


def may(door: DoorKind, identity: Principal, verb: str) -> None:
    """Check that `identity` may use `verb` at `door`.

    Raises:
        PermissionRefused: `identity` may not use the verb there.
        UsageError: the verb does not exist.
    """
    allowed = ALLOWED[door].get(identity.role)
    if allowed is not None and verb in allowed:
        return
    if identity.role is Role.EXPIRED:
        raise PermissionRefused(
            f"the certificate of {identity.name} has expired or is not valid yet; it can only be renewed",
            hint="Run 'drawwell renew' on that machine. If that fails, compare the clocks of both machines.",
        )
    if verb not in VERBS:
        raise UsageError(f"unknown control verb {verb!r}")
    raise _refusal(door, identity, verb)


def _refusal(door: DoorKind, identity: Principal, verb: str) -> PermissionRefused:
    if verb == SPEAK:
        return PermissionRefused(
            f"{identity.name} may not open sessions for consumers",
            hint="Only the account set by user in [ssh] may run 'drawwell serve-stdio'.",
        )
    if verb == DEPOSIT:
        return PermissionRefused(
            f"{identity.name} may not deposit bytes",
            hint="Run the source as root, as the broker's own user, or as the user set by source_user in [broker].",
        )
    if identity.role is Role.STRANGER:
        return PermissionRefused(
            f"{identity.name} is not a consumer of this broker",
            hint='Ask the operator for an invitation, or for a [[consumer]] with user = "…" in the configuration.',
        )
    if verb in FOR_THE_OWNER:
        return PermissionRefused(
            f"only the broker's owner may use {verb}",
            hint="Run the command on the broker's machine as root or the broker's own user, over the control socket.",
        )
    return PermissionRefused(
        f"{identity.name} may not use {verb} over {door}", hint="Connect to another door."
    )
