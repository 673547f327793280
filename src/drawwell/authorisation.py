"""Who may do what, by which door: the one decision, and the whole of it. Everything that it does not name is refused.

Who somebody *is* is found out elsewhere, by the door: a certificate and its registry, the kernel's word for a local
user, the configuration for EGD. How *much* he may have is the broker's matter (terms, quota). Joining is not here: the
enrolment door has one request, an invitation's secret is its right, and there is no broker behind it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from drawwell.errors import PermissionRefused, UsageError
from drawwell.verbs import CONTROL_VERBS, Audience, names_for


class DoorKind(StrEnum):
    """A way to the broker. What speaks another protocol at the same port is a way of its own."""

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
    DEPOSIT = "the socket of the sources"


class Role(StrEnum):
    """What somebody is to this broker."""

    OWNER = "owner"
    """Root or the broker's own user, by the kernel's word."""
    SPEAKER = "speaker"
    """The account that sshd runs serve-stdio under."""
    SOURCE = "source"
    """The account that noise sources run under."""
    OBSERVER = "observer"
    """Whom the permissions of a socket let in that tells how things are, and who is nobody else."""
    CONSUMER = "consumer"
    EXPIRED = "expired"
    """A consumer whose certificate ran out within the grace period."""
    STRANGER = "stranger"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks: from the door that identifies it to the audit log.

    `name` is the consumer's, or describes who else it is. `certificate_id` is the registry's own
    name for its certificate (SHA-256 of the public key, in hexadecimal), "" where it showed none.
    """

    role: Role
    name: str
    certificate_id: str = ""


ANYONE: Final = Principal(Role.CONSUMER, "")
"""A consumer without a name: it draws nothing, and its status tells only whether the broker is ready."""


DRAW: Final = "draw"
STIR: Final = "stir"
"""Mix bytes in that are credited nothing."""
SPEAK: Final = "speak"
"""Say which consumer one is, and be believed."""
DEPOSIT: Final = "deposit"
"""Put bytes into the reservoir, which all are served from: whoever may do this knows what he put there."""
RENEW: Final = "renew"
READY: Final = "ready"
"""Ask whether draws can be served now, and nothing else."""
OBSERVE: Final = "observe"
FOR_THE_OWNER: Final = names_for(Audience.OWNER)
FOR_EVERYBODY: Final = names_for(Audience.ALL)
"""What is answered depends on who asks: a consumer's status is its own."""
VERBS: Final = CONTROL_VERBS.keys() | {DRAW, STIR, SPEAK, DEPOSIT, READY}

_CALLS: Final = FOR_EVERYBODY | names_for(Audience.ITSELF)
_STATUS: Final = frozenset({"status"})
_NETWORK: Final = {Role.CONSUMER: _CALLS | {DRAW, OBSERVE}, Role.EXPIRED: frozenset({RENEW})}
_LOCAL: Final = {Role.OWNER: _CALLS | {DRAW}, Role.CONSUMER: _CALLS | {DRAW}}
_HTTP: Final = FOR_EVERYBODY | {DRAW, READY}
_PUBLIC: Final = frozenset({READY})
ALLOWED: Final[Mapping[DoorKind, Mapping[Role, frozenset[str]]]] = {
    # asked a second time for every call, whichever its door: it has all that any door has
    DoorKind.CONTROL: _LOCAL
    | _NETWORK
    | {Role.OWNER: _CALLS | FOR_THE_OWNER | {DRAW, OBSERVE}, Role.OBSERVER: _STATUS},
    DoorKind.UNIX: _LOCAL,
    DoorKind.LINK: {
        Role.OWNER: FOR_EVERYBODY | {DRAW},
        Role.CONSUMER: FOR_EVERYBODY | {DRAW},
        Role.OBSERVER: _STATUS,
    },
    DoorKind.TLS: _NETWORK,
    DoorKind.STREAM: {Role.CONSUMER: frozenset({DRAW})},
    DoorKind.HTTPS: {Role.CONSUMER: _HTTP | {OBSERVE}, Role.EXPIRED: _PUBLIC, Role.STRANGER: _PUBLIC},
    DoorKind.HTTP: {
        Role.OWNER: _HTTP | {OBSERVE},
        Role.CONSUMER: _HTTP | {OBSERVE},
        Role.STRANGER: _PUBLIC,
    },
    DoorKind.PROBE: {Role.STRANGER: _PUBLIC | {OBSERVE}},
    DoorKind.SSH: {
        Role.OWNER: frozenset({SPEAK}),
        Role.SPEAKER: frozenset({SPEAK}),
        Role.CONSUMER: FOR_EVERYBODY | {DRAW},
    },
    DoorKind.EGD: {Role.CONSUMER: frozenset({DRAW, STIR})},
    DoorKind.USB: {Role.CONSUMER: frozenset({DRAW})},
    DoorKind.DEPOSIT: {Role.OWNER: frozenset({DEPOSIT}), Role.SOURCE: frozenset({DEPOSIT})},
    DoorKind.GUEST: {Role.CONSUMER: FOR_EVERYBODY | {DRAW}},
}


def may(door: DoorKind, identity: Principal, verb: str) -> None:
    """Return when `identity` may do `verb` by that door.

    Raises:
        PermissionRefused: it may not.
        UsageError: there is no such verb.
    """
    allowed = ALLOWED[door].get(identity.role)
    if allowed is not None and verb in allowed:
        return
    if identity.role is Role.EXPIRED:
        raise PermissionRefused(
            f"the certificate of {identity.name} has run out or has not begun: it may only be renewed",
            hint="Run 'drawwell renew' on that machine; if that does not help, compare the clocks of both.",
        )
    if verb not in VERBS:
        raise UsageError(f"no control verb is called {verb!r}")
    raise _refusal(door, identity, verb)


def _refusal(door: DoorKind, identity: Principal, verb: str) -> PermissionRefused:
    if verb == SPEAK:
        return PermissionRefused(
            f"{identity.name} speaks for no consumer",
            hint="Only the account that [ssh] user names may run 'drawwell serve-stdio'.",
        )
    if verb == DEPOSIT:
        return PermissionRefused(
            f"{identity.name} may not deposit",
            hint="Run the source as root, as the broker's own user, or as the user that [broker] source_user names.",
        )
    if identity.role is Role.STRANGER:
        return PermissionRefused(
            f"no consumer of this broker is {identity.name}",
            hint='Have the operator add a [[consumer]] with user = "…" to the configuration, or invite you.',
        )
    if verb in FOR_THE_OWNER:
        return PermissionRefused(
            f"only the broker's owner may ask for {verb}",
            hint="Ask as root or as the broker's own user, on the broker's machine, at the control socket.",
        )
    return PermissionRefused(
        f"{identity.name} may not ask for {verb} over {door}", hint="Ask by another door."
    )
