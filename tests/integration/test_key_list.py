"""A consumer follows its broker's keys by the list in a renewal."""

import asyncio
import time
from pathlib import Path

import pytest

from drawwell.crypto import pki
from drawwell.enrolment.key_ring import KeyRing
from drawwell.errors import AuthenticationFailed
from drawwell.links.enrol import join
from drawwell.links.identity import LinkIdentity, renew_if_due
from drawwell.state.files import read_file
from support.enrolling import Broker


class Asked:
    """An Upstream that renews with the admin of a broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def call(self, _verb: str, args: dict[str, str]) -> dict[str, str]:
        return self._broker.admin.renewals.renew("web01", args["csr"])


def renew(broker: Broker, identity: LinkIdentity) -> None:
    asyncio.run(renew_if_due(Asked(broker), identity, time.time(), force=True))  # type: ignore[arg-type]


def test_a_renewal_brings_the_list_of_keys(tmp_path: Path) -> None:
    """Receipt keys are those of the list; an older list is refused."""
    with Broker(str(tmp_path / "broker")).running() as broker:
        identity = join(broker.invite(), str(tmp_path / "links" / "well"))
        ring = KeyRing(str(tmp_path / "broker" / "pki"), "well", time.time())
        older = ring.public()
        ring.rotate("receipts", time.time() + 60)
        broker.authority._public = ring.public()
        renew(broker, identity)
        present, earlier = pki.pem_blocks(read_file(identity.receipt_key_path))
        assert (present, earlier) == (ring.public().receipt_key, older.receipt_key)
        broker.authority._public = older
        with pytest.raises(AuthenticationFailed, match="older list"):
            renew(broker, identity)
