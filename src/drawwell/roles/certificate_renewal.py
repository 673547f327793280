"""Renews a consumer's expiring certificates over its sessions."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Sequence

from drawwell.errors import DrawwellError
from drawwell.links.failover import Failover
from drawwell.links.identity import LINK, load
from drawwell.links.link import Link
from drawwell.links.renewal import renew_if_due
from drawwell.ports import Upstream

log = logging.getLogger("drawwell.consumer")

LOOK_EVERY_S = 600.0
"""Interval of checks. If the broker's clock is wrong, draws may be refused for this long."""


async def keep_renewed(links: Sequence[tuple[Upstream, str]], renewed: Callable[[], None]) -> None:
    """Renew until cancelled.

    `links` are upstreams with the directories of their identities. `renewed` is called after
    each renewal, because a renewal may have added brokers.
    """
    while True:
        for link, directory in filter(_joined, links):
            try:
                wanted = isinstance(link, Link | Failover) and link.renew_only
                if await renew_if_due(link, load(directory), time.time(), force=wanted):
                    log.info("renewed the certificate for %s", link.name)
                    renewed()
            except DrawwellError as error:
                log.warning("cannot renew the certificate for %s: %s", link.name, error)
        await asyncio.sleep(LOOK_EVERY_S)


def _joined(link: tuple[Upstream, str]) -> bool:
    """Return whether `join` wrote the identity; only those are renewed here."""
    return os.path.exists(os.path.join(link[1], LINK))
