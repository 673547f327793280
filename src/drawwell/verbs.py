"""The table of control verbs, with their callers and arguments.

A handler receives the calling principal and named arguments, and returns a JSON object.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final

from drawwell.errors import UsageError

Handler = Callable[..., Awaitable[dict[str, Any]]]
LONGEST_TIMEOUT_S: Final = 3600.0


class Audience(Enum):
    """The peers that may call a verb."""

    OWNER = auto()
    """The owner, only at the control socket."""
    ALL = auto()
    """The owner and all consumers, at every door that accepts calls."""
    ITSELF = auto()
    """A consumer with a certificate, only for its own account."""
    OBSERVERS = auto()
    """The owner, consumers with the right to observe, and local monitoring probes."""


@dataclass(frozen=True, slots=True)
class VerbArgument:
    """The type of an argument, and the default if it is absent or null."""

    must_be: str
    fits: Callable[[Any], bool]
    required: bool = False
    default: Any = None

    def read(self, verb: str, name: str, value: object) -> Any:
        """Return `value`, or the default if it is None.

        Raises:
            UsageError: `value` is invalid, or missing and required.
        """
        if value is None and not self.required:
            return self.default
        if value is None or not self.fits(value):
            raise UsageError(f"{verb}: {name} must be {self.must_be}")
        return value


@dataclass(frozen=True, slots=True)
class Verb:
    """A control verb; it is audited unless it changes nothing."""

    name: str
    audience: Audience
    arguments: Mapping[str, VerbArgument] = field(default_factory=dict)
    audited: bool = True

    def read(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Check the given arguments; return all arguments of the verb.

        Raises:
            UsageError: an argument is missing, unknown or invalid.
        """
        for name in given:
            if name not in self.arguments:
                takes = ", ".join(self.arguments) or "none"
                raise UsageError(f"{self.name}: unknown argument {name[:40]!r}", hint=f"Arguments: {takes}.")
        return {name: each.read(self.name, name, given.get(name)) for name, each in self.arguments.items()}


def _whole(most: int) -> VerbArgument:
    return VerbArgument(
        f"an integer from 0 to {most}", lambda value: type(value) is int and 0 <= value <= most
    )


_TEXT: Final = VerbArgument("a string", lambda value: isinstance(value, str))
_NAME: Final = VerbArgument(
    "a string that is not empty", lambda value: isinstance(value, str) and value != "", required=True
)
_FLAG: Final = VerbArgument("true or false", lambda value: isinstance(value, bool), default=False)
_OBJECT: Final = VerbArgument("a JSON object", lambda value: isinstance(value, dict))
_USER_ID: Final = _whole(2**32 - 2)
_TIMEOUT_S: Final = VerbArgument(
    f"a number from 0 to {LONGEST_TIMEOUT_S:.0f}",
    lambda value: type(value) in {int, float} and 0 <= value <= LONGEST_TIMEOUT_S,
    default=10.0,
)
_TERMS: Final = {"rate": _TEXT, "quota": _TEXT, "draw_class": _TEXT}
_GUEST: Final = {"name": _NAME, "timeout_s": _TIMEOUT_S}
_OWNER: Final = Audience.OWNER

CONTROL_VERBS: Final = {
    verb.name: verb
    for verb in (
        Verb("status", Audience.ALL, audited=False),
        Verb("receipt-key", Audience.ALL, audited=False),
        Verb("brokers", Audience.ALL, audited=False),
        Verb("observe", Audience.OBSERVERS, audited=False),
        Verb("renew", Audience.ITSELF, {"csr": _NAME}),
        Verb("rekey", Audience.ITSELF, {"csr": _NAME}),
        Verb("source.command", _OWNER, {"source": _TEXT, "verb": _NAME, "args": _OBJECT}),
        Verb("source.history", _OWNER, {"source": _TEXT}, audited=False),
        Verb(
            "consumer.invite", _OWNER,
            {"name": _NAME, **_TERMS, "stream": _TEXT, "ssh_key": _TEXT, "ttl": _TEXT, "address": _TEXT},
        ),
        Verb("consumer.list", _OWNER, {"pattern": _TEXT, "after": _TEXT}, audited=False),
        Verb("consumer.revoke", _OWNER, {"name": _NAME}),
        Verb("consumer.quota", _OWNER, {"name": _NAME, **_TERMS, "stream": _TEXT}),
        Verb("seed.claim", _OWNER, {"name": _NAME, "again": _FLAG}),
        Verb("seed.settle", _OWNER, {"name": _NAME, "serial": _whole(2**63 - 1)}),
        Verb(
            "guest.add", _OWNER,
            {"name": _NAME, "kind": _NAME, "via": _NAME, **_TERMS, "uid": _USER_ID, "gid": _USER_ID},
        ),
        Verb("guest.settle", _OWNER, _GUEST),
        Verb("guest.remove", _OWNER, _GUEST),
        Verb("guest.list", _OWNER, audited=False),
        Verb("server.rotate", _OWNER),
        Verb("fleet.open", _OWNER),
    )
}  # fmt: skip


def names_for(audience: Audience) -> frozenset[str]:
    """Return the names of the verbs for `audience`."""
    return frozenset(verb.name for verb in CONTROL_VERBS.values() if verb.audience is audience)
