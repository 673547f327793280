"""Changes by other brokers, and broker names, on a real store."""

import asyncio
import contextlib

import pytest

from drawwell.entropy.blocks import DrawClass
from drawwell.errors import StateUnavailable
from drawwell.fleet import feed
from drawwell.fleet.connection import Address
from drawwell.fleet.feed import ChangeFeed
from drawwell.fleet.store import PostgresStore
from drawwell.state.port import Changes
from drawwell.state.rows import ConsumerRow
from drawwell.testing.waiting import DEADLINE_S, until, wait_until

WEB = ConsumerRow("web01", None, None, frozenset(DrawClass), created=1.5)


class Follower:
    """A feed that records its calls."""

    def __init__(self, database, *, name="site-a", grace_s=DEADLINE_S) -> None:
        self.seen: list[Changes] = []
        self.fail = False
        self.feed = ChangeFeed(Address(database.of(name)), name, self._follow, grace_s)

    async def _follow(self, changes: Changes) -> None:
        if self.fail:
            raise StateUnavailable("not now")
        self.seen.append(changes)

    @property
    def names(self) -> list[str]:
        return [name for changes in self.seen for name in changes.consumers]

    @contextlib.asynccontextmanager
    async def running(self):
        await asyncio.to_thread(self.feed.start)
        task = asyncio.ensure_future(self.feed.run())  # noqa: TID251
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await asyncio.to_thread(self.feed.close)


@pytest.fixture
def store(fleet_database):
    store = PostgresStore(Address(fleet_database.broker), "other", lambda: Address(fleet_database.owner))
    yield store
    store.close()


def test_a_notice_brings_a_change(store, fleet_database, monkeypatch) -> None:
    """A revocation elsewhere arrives by a notice, without the regular poll."""
    monkeypatch.setattr(feed, "EVERY_S", 10 * DEADLINE_S)
    store.put_consumer(WEB)

    async def run() -> None:
        async with Follower(fleet_database).running() as follower:
            started = follower.feed._read_at
            await until(lambda: follower.feed._read_at > started, "the first look")
            await asyncio.to_thread(store.revoke, "web01", 5.0)
            await until(lambda: follower.names == ["web01"], "the revocation arrives")

    asyncio.run(run())


def test_a_lost_notice_costs_the_time_to_the_next_look(store, fleet_database, monkeypatch) -> None:
    """Without a notice, a change arrives at the next regular poll."""
    monkeypatch.setattr(feed, "EVERY_S", 0.01)  # short: only its existence counts

    async def run() -> None:
        async with Follower(fleet_database).running() as follower:
            await asyncio.to_thread(follower.feed._connection._db.execute, "UNLISTEN *")
            await asyncio.to_thread(store.put_consumer, WEB)
            await until(lambda: follower.names == ["web01"], "the change arrives")

    asyncio.run(run())


def test_a_change_that_could_not_be_followed_is_read_again(store, fleet_database, monkeypatch) -> None:
    """A broker that cannot read a changed consumer retries."""
    monkeypatch.setattr(feed, "RETRY_S", 0.01)  # short: only its existence counts

    async def run() -> None:
        async with Follower(fleet_database).running() as follower:
            follower.fail = True
            await asyncio.to_thread(store.put_consumer, WEB)
            await until(lambda: "not now" in follower.feed.note(), "following fails")
            follower.fail = False
            await until(lambda: follower.names == ["web01"], "it is followed")

    asyncio.run(run())


def test_changes_that_were_lost_are_all_consumers(store, fleet_database, postgres) -> None:
    """If changes were lost, every consumer is looked up again."""
    for _ in range(3):
        store.put_consumer(WEB)
    assert store.changes(1).complete
    assert not store.changes(99).complete
    with contextlib.closing(PostgresStore(Address(fleet_database.owner), "owner")) as owner:
        owner._reads.run("DELETE FROM drawwell.change WHERE number < 3 RETURNING 1")
    assert not store.changes(1).complete
    assert store.changes(2).complete


def test_a_feed_goes_on_after_the_store_was_killed(store, postgres, fleet_database, monkeypatch) -> None:
    """When the server is back, changes arrive and the name is registered."""
    monkeypatch.setattr(feed, "RETRY_S", 0.01)  # short: only its existence counts

    async def run() -> None:
        async with Follower(fleet_database).running() as follower:
            await asyncio.to_thread(postgres.kill)
            await until(follower.feed.note, "it is noticed")
            assert "not available since" in follower.feed.note()
            await asyncio.to_thread(postgres.start)
            await until(lambda: not follower.feed.note(), "it is there again")
            with contextlib.suppress(StateUnavailable):
                await asyncio.to_thread(store.put_consumer, WEB)
            await asyncio.to_thread(wait_until, lambda: _put(store), "a write")
            await until(lambda: "web01" in follower.names, "the change arrives")
            with pytest.raises(StateUnavailable, match="another broker of this fleet has the name 'site-a'"):
                await asyncio.to_thread(Follower(fleet_database).feed.start)

    asyncio.run(run())


def _put(store) -> bool:
    try:
        store.put_consumer(WEB)
    except StateUnavailable:
        return False
    return True


def test_two_brokers_of_one_name_are_refused(fleet_database) -> None:
    """A second broker with the same name is refused while the first runs."""
    first, second = Follower(fleet_database), Follower(fleet_database)
    first.feed.start()
    with pytest.raises(StateUnavailable, match="has the name 'site-a'") as caught:
        second.feed.start()
    assert "[broker] name" in (caught.value.hint or "")
    other = Follower(fleet_database, name="site-b")
    other.feed.start()
    other.feed.close()

    first.feed.close()
    wait_until(lambda: _starts(second), "the name is free")
    second.feed.close()


def _starts(follower) -> bool:
    try:
        follower.feed.start()
    except StateUnavailable:
        return False
    return True


def test_a_broker_that_is_cut_off_stops_after_its_grace(fleet_database, postgres) -> None:
    """A broker that is cut off serves until its grace ends."""

    async def run() -> None:
        follower = Follower(fleet_database, grace_s=2.0)
        async with follower.running():
            follower.feed.require()
            await asyncio.to_thread(postgres.pause)
            try:
                await until(lambda: _refuses(follower.feed), "it stops")
            finally:
                await asyncio.to_thread(postgres.resume)
            await until(lambda: not _refuses(follower.feed), "it serves again")

    asyncio.run(run())


def _refuses(feed: ChangeFeed) -> bool:
    try:
        feed.require()
    except StateUnavailable as error:
        return "no answer from the fleet's store for" in str(error)
    return False
