"""The links of the [[upstream]] tables, one for each broker."""

import os
import random
from collections.abc import Iterator, Sequence

from drawwell.config.consumer_side import UpstreamSection
from drawwell.config.values import parse_host_port
from drawwell.links.failover import Failover
from drawwell.links.identity import LINK, LinkIdentity, load
from drawwell.ports import Upstream
from drawwell.roles.make_links_and_sinks import identity_directory, make_upstream, tls_link


class JoinedLinks:
    """Links by URL, and one upstream that combines them.

    Args:
        sections: The [[upstream]] tables.
        links_dir: Contains a directory for each joined identity.
        mix: The number of brokers that contribute to each draw.

    Raises:
        StateUnavailable: an identity is missing or damaged.
    """

    def __init__(self, sections: Sequence[UpstreamSection], links_dir: str, mix: int = 1) -> None:
        self.links: dict[str, Upstream] = {}
        self.directories: dict[str, str] = {}
        """The directory of the identity for each URL."""
        self._sections, self._links_dir = sections, links_dir
        self._find()
        self.upstream = Failover(list(self.links.values()), jitter=random.random, mix=mix)

    def refresh(self) -> None:
        """Add the brokers from a renewal; same errors as the constructor."""
        self._find()
        self.upstream.follow(list(self.links.values()))

    def identities(self) -> list[tuple[Upstream, str]]:
        """Return each identity's directory, and an upstream that can renew it."""
        found = []
        for directory in dict.fromkeys(self.directories.values()):
            links = [self.links[url] for url, where in self.directories.items() if where == directory]
            found.append((together(links), directory))
        return found

    def _find(self) -> None:
        known = dict(self.links)
        found: dict[str, Upstream] = {}
        for section in self._sections:
            for url, link in self._of(section):
                found.setdefault(url, known.get(url) or link)
        self.links.clear()
        self.links.update(found)

    def _of(self, section: UpstreamSection) -> Iterator[tuple[str, Upstream]]:
        directory = identity_directory(section, self._links_dir) if section.joined else ""
        fleet = fleet_identity(directory)
        links = broker_links(fleet, section.prefer) if fleet else {}
        for url, link in (links or {section.url: make_upstream(section, self._links_dir)}).items():
            if directory:
                self.directories[url] = directory
            yield url, link


def fleet_identity(directory: str) -> LinkIdentity | None:
    """Return a fleet's identity in a directory; can raise StateUnavailable."""
    if not directory or not os.path.exists(os.path.join(directory, LINK)):
        return None
    identity = load(directory)
    return identity if identity.known.fleet else None


def broker_links(identity: LinkIdentity, prefer: str = "") -> dict[str, Upstream]:
    """Return a link to each broker of an identity, by URL, in order of use."""
    return {
        f"tls://{address}": tls_link(identity.directory, parse_host_port(address), identity.server_name)
        for broker in identity.all_brokers(prefer)
        for address in broker.addresses
    }


def together(links: Sequence[Upstream], mix: int = 1) -> Upstream:
    """Return a single link, or one that combines several (failover, mixing)."""
    return links[0] if len(links) == 1 else Failover(links, jitter=random.random, mix=mix)
