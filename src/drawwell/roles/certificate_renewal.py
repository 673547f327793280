"""A consumer's certificates, renewed over the sessions that they serve at two thirds of their life."""

import asyncio
import logging
import os
import time
from collections.abc import Sequence

from drawwell.errors import DrawwellError
from drawwell.links.identity import LINK, load, renew_if_due
from drawwell.links.link import Link
from drawwell.ports import Upstream

log = logging.getLogger("drawwell.consumer")

LOOK_EVERY_S = 600.0
"""For so long a broker whose clock was wrong may refuse draws until the certificate is renewed."""


async def keep_renewed(links: Sequence[tuple[Upstream, str]]) -> None:
    """Renew until cancelled; `links` are upstreams with the directories of their identities."""
    while True:
        for link, directory in filter(_joined, links):
            try:
                wanted = isinstance(link, Link) and link.renew_only
                if await renew_if_due(link, load(directory), time.time(), force=wanted):
                    log.info("renewed the certificate for %s", link.name)
            except DrawwellError as error:
                log.warning("certificate for %s not renewed: %s", link.name, error)
        await asyncio.sleep(LOOK_EVERY_S)


def _joined(link: tuple[Upstream, str]) -> bool:
    """Did `join` write the identity? Else it is of the owner's PKI, which renews it itself."""
    return os.path.exists(os.path.join(link[1], LINK))
