"""``drawwell fleet remove`` with a signer and a real PostgreSQL."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from drawwell.cli import main
from drawwell.config.load import load
from drawwell.crypto.hierarchy import KeyList
from drawwell.enrolment.key_ring import KeyRing
from drawwell.errors import StateUnavailable
from drawwell.fleet.connection import Address
from drawwell.fleet.feed import ChangeFeed
from drawwell.fleet.mail import FleetOwner
from drawwell.links.signer import RemoteKeys
from drawwell.testing.waiting import wait_until
from support.daemon import Daemon
from support.fleet import FleetSites
from support.postgres import FleetDatabase
from support.station import Site
from unit.enrolment.test_key_ring import NOW

pytestmark = pytest.mark.slow


class Member:
    """A joined broker, as seen by the store and the root's signer."""

    def __init__(self, name: str, site: Site, keys: RemoteKeys, database: FleetDatabase) -> None:
        self.name, self.keys, self._database = name, keys, database
        self.ring = KeyRing(str(site.folder / name), name, NOW)
        self._owner = FleetOwner(load(str(site.path)))

    def join(self) -> None:
        """Join the fleet with an invitation, and write its row."""
        made = self.keys.ask("fleet-invite", broker=self.name, ttl_s=60)
        csr, receipt_key = (part.decode() for part in self.ring.request())
        invitation = {key: made[key] for key in ("invitation", "secret")}
        self.keys.ask("fleet-admit", csr=csr, receipt_key=receipt_key, **invitation)
        self._owner.admit(self.name)
        with psycopg.connect(self._database.of(self.name), autocommit=True) as db:
            db.execute("SELECT drawwell.beat('{b:55000}', '', 'PEM', '1.0', '{}')")
            db.execute("SELECT drawwell.ask_certificate('csr')")

    def names(self) -> tuple[list[str], list[str]]:
        """Return the brokers with a row, and those with a request."""
        with psycopg.connect(self._database.owner) as db:
            rows = db.execute("SELECT name FROM drawwell.brokers").fetchall()
        return [name for (name,) in rows], [name for name, _ in self._owner.requests()]

    def receipts_end(self) -> int:
        """Return the end of its receipt key, or 0."""
        public = self.keys.public()
        listed = KeyList.read(public.key_list, public.roots).receipt_keys
        own = self.ring.public().receipt_key.decode()
        return next(key.until for key in listed if key.public_key == own)

    def close(self) -> None:
        """Close its connection."""
        self._owner.close()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Use the store under its name until the block ends."""
        feed = ChangeFeed(Address(self._database.of(self.name)), self.name, follow, 900.0)
        try:
            feed.start()
            yield
        finally:
            feed.close()


async def follow(_changes: Any) -> None:
    """Do nothing."""


@pytest.fixture
def site(folder: Path, fleet_database: FleetDatabase) -> Iterator[Site]:
    """Return the owner's machine with a running signer."""
    (site,) = FleetSites(folder, fleet_database, ("a",)).sites
    with Daemon("signer", "run", config=site.path, log=folder / "signer.log") as signer:
        signer.wait_for_text("listening on")
        yield site


@pytest.fixture
def member(site: Site, fleet_database: FleetDatabase) -> Iterator[Member]:
    keys = RemoteKeys(load(str(site.path)).signer.socket)
    keys.ask("fleet-found", fleet="test")
    member = Member("site-b", site, keys, fleet_database)
    yield member
    member.close()
    keys.close()


def test_a_broker_is_removed_and_joins_again(site: Site, member: Member, capsys: Any) -> None:
    """A running broker stays; a removed one loses row, login and certificate.

    Its receipt key ends. By another invitation it is a broker again.
    """

    def remove(*more: str) -> tuple[int, str]:
        code = main(["-c", str(site.path), "fleet", "remove", "site-b", *more])
        shown = capsys.readouterr()
        return code, shown.out or shown.err

    code, text = remove()
    assert (code, "no broker site-b" in text) == (64, True)
    member.join()
    with member.running():
        code, text = remove()
    assert (code, "broker site-b is running" in text) == (64, True)
    assert member.names() == (["site-b"], ["site-b"])
    code, text = remove("--json", "--running")
    assert (code, json.loads(text)) == (0, {"broker": "site-b", "fleet": "test"})
    assert member.names() == ([], [])
    assert member.receipts_end() > 0
    with pytest.raises(StateUnavailable, match="was removed from its fleet"), member.running():
        pass
    member.join()
    assert member.names() == (["site-b"], ["site-b"])
    assert member.receipts_end() == 0
    with member.running():
        code, text = remove("--running")
    assert (code, "removed site-b from fleet" in text) == (0, True)
    assert member.names() == ([], [])


def test_a_session_that_ends_by_itself_is_no_failure(fleet_database: FleetDatabase) -> None:
    """A session may end by itself after the sessions have been listed.

    A transaction lists the sessions only once, so here the list is old when the function is
    called.
    """
    notices: list[Any] = []
    with psycopg.connect(fleet_database.owner) as owner, psycopg.connect(fleet_database.owner) as other:
        listed = "SELECT pid FROM pg_stat_activity WHERE pid = %s"
        owner.add_notice_handler(notices.append)
        other.autocommit = True
        with psycopg.connect(fleet_database.broker) as broker:
            process = (broker.info.backend_pid,)
            assert owner.execute(listed, process).fetchone()
        wait_until(lambda: not other.execute(listed, process).fetchone(), "the session has ended")
        owner.execute("SELECT drawwell.end_sessions('site-a')")
        assert owner.execute(listed, process).fetchone()

    assert not notices


def test_it_is_refused_where_it_cannot_be_done(site: Site, member: Member, capsys: Any) -> None:
    """Not for the broker itself, nor without the owner's role or the root."""
    member.join()

    def refused(broker: str, code: int, text: str) -> None:
        assert main(["-c", str(site.path), "fleet", "remove", broker]) == code
        assert text in capsys.readouterr().err

    refused("site-a", 64, "this machine's broker")
    owner = site.folder / "owner"
    owner.rename(site.folder / "kept")
    refused("site-b", 77, "does not have the role of the fleet's owner")
    (site.folder / "kept").rename(owner)
    member.keys.ask("forget-root")
    refused("site-b", 64, "pki import-root FILE")
