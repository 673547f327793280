"""Places at the enrolment door. A flood displaces only its own network."""

import asyncio
import ipaddress
import socket
from collections import Counter
from collections.abc import Collection

from drawwell.doors.admission import source_of


class JoiningPeer:
    """A connection at the enrolment door (`PendingHandshake`).

    Args:
        peer: The socket.
        host: The peer's address.
        now: The event loop's time.
    """

    def __init__(self, peer: socket.socket, host: str, now: float) -> None:
        self.peer = peer
        self.host = str(_plain(host))
        self.address = source_of((host,))
        self.network = network_of(host)
        self.waits_for_us = False
        self.turn = asyncio.Event()
        self._since = now

    def quiet_s(self, now: float) -> float:
        """Return how long we have waited for the peer."""
        return 0.0 if self.waits_for_us else now - self._since

    def begin(self) -> None:
        """Give the peer its turn (PendingHandshake)."""
        self.turn.set()


def one_too_many(peers: Collection[JoiningPeer], now: float) -> JoiningPeer:
    """Choose the peer to drop: the quietest from the busiest network."""
    networks = Counter(each.network for each in peers)
    addresses = Counter(each.address for each in peers)
    return max(peers, key=lambda each: (networks[each.network], addresses[each.address], each.quiet_s(now)))


def network_of(host: str) -> str:
    """Return a host's IPv4 /24 or IPv6 /48 network, which often has one owner."""
    address = _plain(host)
    return str(ipaddress.ip_network((address, 24 if address.version == 4 else 48), strict=False))


def _plain(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Parse an address without its zone; convert mapped IPv4 addresses."""
    address = ipaddress.ip_address(host.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address
