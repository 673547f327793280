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


class Way(StrEnum):
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


class Standing(StrEnum):
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
class Identity:
    """Somebody. `name` is the consumer's, or says who else it is."""

    standing: Standing
    name: str


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
FOR_THE_OWNER: Final = frozenset({
    "source.command", "consumer.invite", "consumer.list", "consumer.revoke", "consumer.quota",
    "seed.claim", "seed.settle", "guest.add", "guest.settle", "guest.remove", "guest.list",
})  # fmt: skip
FOR_EVERYBODY: Final = frozenset({"status", "receipt-key"})
"""What is answered depends on who asks: a consumer's status is its own."""
VERBS: Final = FOR_THE_OWNER | FOR_EVERYBODY | {DRAW, STIR, SPEAK, DEPOSIT, RENEW, READY}

_CALLS: Final = FOR_EVERYBODY | {RENEW}
_STATUS: Final = frozenset({"status"})
_NETWORK: Final = {Standing.CONSUMER: _CALLS | {DRAW}, Standing.EXPIRED: frozenset({RENEW})}
_LOCAL: Final = {Standing.OWNER: _CALLS | {DRAW}, Standing.CONSUMER: _CALLS | {DRAW}}
_HTTP: Final = FOR_EVERYBODY | {DRAW, READY}
_PUBLIC: Final = frozenset({READY})
ALLOWED: Final[Mapping[Way, Mapping[Standing, frozenset[str]]]] = {
    Way.CONTROL: _LOCAL | {Standing.OWNER: _CALLS | FOR_THE_OWNER | {DRAW}, Standing.OBSERVER: _STATUS},
    Way.UNIX: _LOCAL,
    Way.LINK: {
        Standing.OWNER: FOR_EVERYBODY | {DRAW},
        Standing.CONSUMER: FOR_EVERYBODY | {DRAW},
        Standing.OBSERVER: _STATUS,
    },
    Way.TLS: _NETWORK,
    Way.STREAM: {Standing.CONSUMER: frozenset({DRAW})},
    Way.HTTPS: {Standing.CONSUMER: _HTTP, Standing.EXPIRED: _PUBLIC, Standing.STRANGER: _PUBLIC},
    Way.HTTP: {Standing.OWNER: _HTTP, Standing.CONSUMER: _HTTP, Standing.STRANGER: _PUBLIC},
    Way.PROBE: {Standing.STRANGER: _PUBLIC},
    Way.SSH: {
        Standing.OWNER: frozenset({SPEAK}),
        Standing.SPEAKER: frozenset({SPEAK}),
        Standing.CONSUMER: FOR_EVERYBODY | {DRAW},
    },
    Way.EGD: {Standing.CONSUMER: frozenset({DRAW, STIR})},
    Way.USB: {Standing.CONSUMER: frozenset({DRAW})},
    Way.DEPOSIT: {Standing.OWNER: frozenset({DEPOSIT}), Standing.SOURCE: frozenset({DEPOSIT})},
    Way.GUEST: {Standing.CONSUMER: FOR_EVERYBODY | {DRAW}},
}


def may(door: Way, identity: Identity, verb: str) -> None:
    """Return when `identity` may do `verb` by that door.

    Raises:
        PermissionRefused: it may not.
        UsageError: there is no such verb.
    """
    allowed = ALLOWED[door].get(identity.standing)
    if allowed is not None and verb in allowed:
        return
    if identity.standing is Standing.EXPIRED:
        raise PermissionRefused(
            f"the certificate of {identity.name} has run out: it may only be renewed",
            hint="Run 'drawwell renew' on that machine.",
        )
    if verb not in VERBS:
        raise UsageError(f"no control verb is called {verb!r}")
    raise _refusal(door, identity, verb)


def _refusal(door: Way, identity: Identity, verb: str) -> PermissionRefused:
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
    if identity.standing is Standing.STRANGER:
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
