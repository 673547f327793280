"""The brokers that a consumer can draw from, and their order."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

MOST_BROKERS: Final = 64
MOST_ADDRESSES: Final = 8
_LONGEST: Final = 300
"""The maximum length of a name or an address in characters."""


@dataclass(frozen=True, slots=True)
class KnownBroker:
    """A broker and the addresses of its TLS door, ``host:port``."""

    name: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KnownBrokers:
    """The brokers of a fleet, or a single broker if `fleet` is ""."""

    fleet: str = ""
    brokers: tuple[KnownBroker, ...] = ()

    @classmethod
    def read(cls, fields: Any) -> Self:
        """Parse a JSON object; raise ValueError if it is invalid."""
        try:
            found = [(each["name"], tuple(each["addresses"])) for each in fields["brokers"]]
            fleet = fields["fleet"]
        except (KeyError, TypeError) as error:
            raise ValueError("not a list of brokers") from error
        texts = [fleet or "-", *(text for name, addresses in found for text in (name, *addresses))]
        if not all(isinstance(text, str) and _is_plain(text) for text in texts):
            raise ValueError("a broker's name or address is not printable ASCII text")
        if len(found) > MOST_BROKERS or any(len(addresses) > MOST_ADDRESSES for _, addresses in found):
            raise ValueError("there are too many brokers, or too many addresses of a broker")
        return cls(fleet, tuple(KnownBroker(name, addresses) for name, addresses in found))

    def document(self) -> dict[str, Any]:
        """Return the brokers as a JSON object."""
        listed = [{"name": each.name, "addresses": list(each.addresses)} for each in self.brokers]
        return {"fleet": self.fleet, "brokers": listed}

    def over(self, earlier: Iterable[KnownBroker]) -> "KnownBrokers":
        """Return these brokers, followed by those that only `earlier` contains."""
        names = {each.name for each in self.brokers}
        kept = tuple(each for each in earlier if each.name not in names)
        return KnownBrokers(self.fleet, (*self.brokers, *kept)[:MOST_BROKERS])


NONE_KNOWN: Final = KnownBrokers()


def in_order(brokers: Sequence[KnownBroker], consumer: str, prefer: str = "") -> list[KnownBroker]:
    """Return brokers in the order in which a consumer tries them.

    The preferred broker is first. The others are in the order of rendezvous hashing (Thaler
    and Ravishankar, 1998), which spreads consumers evenly. A new broker changes the first
    choice of only those consumers that it takes over.
    """

    def rank(broker: KnownBroker) -> tuple[bool, bytes]:
        score = hashlib.sha256(f"{consumer}\0{broker.name}".encode()).digest()
        return broker.name != prefer, score

    return sorted(brokers, key=rank)


def fleet_host(fleet: str) -> str:
    """Return the DNS name in the certificates of all brokers of a fleet."""
    return f"{fleet.lower()}.fleet.drawwell.internal"


def _is_plain(text: str) -> bool:
    return 0 < len(text) <= _LONGEST and text.isascii() and text.isprintable()
