"""Three brokers of a fleet as processes, and their failures."""

import asyncio
import random

import pytest

from drawwell.crypto.tokens import parse_token
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import AuthenticationFailed, LinkUnavailable, PermissionRefused, StateUnavailable
from drawwell.links.enrol import join
from drawwell.links.failover import Failover
from drawwell.testing.waiting import DEADLINE_S, until
from drawwell.wire.limits import MAX_DRAW_BYTES
from support.fleet import Drawer, FleetSites, audit
from support.patroni import PatroniPair, patroni_pair
from support.postgres import Pair, debian_13, pair, require_postgres

pytestmark = pytest.mark.slow

QUOTA = 60_000
BIG_QUOTA = 4 << 20
LOST = 1 / 8
"""A lease is this share of the rest of the quota; a failure can lose one lease."""


def test_a_quota_holds_in_the_fleet_in_sum(folder, fleet_database) -> None:
    """A machine that joins at one broker has one quota at all three.

    A revocation at the first ends another at all, and a broker's death costs no error.
    """
    fleet, dice = FleetSites(folder, fleet_database), random.Random(3)

    async def run() -> None:
        async with fleet.running() as daemons:
            identity = await fleet.enrol("web01", fleet.sites[2], quota=f"{QUOTA}B/day")
            drawers = [Drawer(identity) for _ in fleet.sites]
            async with asyncio.TaskGroup() as group:
                for drawer, site in zip(drawers, fleet.sites, strict=True):
                    group.create_task(drawer.draw_on(site.link(identity), dice))
            received = sum(drawer.received for drawer in drawers)
            assert all(drawer.serials for drawer in drawers)
            assert received == QUOTA
            audit(drawers)
            other = await fleet.enrol("db01", fleet.sites[1])
            links = [site.link(other) for site in fleet.sites]
            for link in links:
                await link.draw(8, DrawClass.DRBG)
            await fleet.sites[0].ask("consumer.revoke", {"name": "db01"})
            for link in links:
                await until_refused(link)
                await link.aclose()
            await dies_unnoticed(fleet, daemons[0], await fleet.enrol("app01", fleet.sites[0]))

    asyncio.run(run())


async def dies_unnoticed(fleet, daemon, identity) -> None:
    """Kill the current broker; check that another serves the next draw."""
    failover = Failover([site.link(identity) for site in fleet.sites], jitter=random.random)
    first = await failover.draw(8, DrawClass.DRBG)
    daemon.kill()
    second = await failover.draw(8, DrawClass.DRBG)
    assert first.serial >> 40 != second.serial >> 40
    await failover.aclose()


async def until_refused(link) -> None:
    """Draw until the broker refuses this machine."""
    while True:
        try:
            await link.draw(8, DrawClass.DRBG)
        except (PermissionRefused, AuthenticationFailed):
            return
        except LinkUnavailable as error:  # the revocation closed the session during a draw
            if "revoked" not in str(error):
                raise


def test_a_store_that_is_away_is_noticed_by_who_has_no_lease(folder, fleet_database, postgres) -> None:
    """Without the store, a lease can still be used; others are refused.

    An invitation and a join are refused with a reason. All of it works again once the store
    is back.
    """
    fleet = FleetSites(folder, fleet_database, ("a",))

    async def run() -> None:
        async with fleet.running() as (daemon,):
            (site,) = fleet.sites
            rich = site.link(await fleet.enrol("rich", site, quota="64KiB/week"))
            poor = site.link(await fleet.enrol("poor", site, quota="64KiB/week"))
            stranger = site.link(await fleet.enrol("stranger", site))
            await rich.draw(8, DrawClass.DRBG)
            await poor.call("status", {})
            token = parse_token((await site.ask("consumer.invite", {"name": "late"}))["token"])
            await asyncio.to_thread(postgres.kill)
            try:
                for _ in range(50):
                    await rich.draw(8, DrawClass.DRBG)
                await rich.aclose()
                for _ in range(50):
                    await rich.draw(8, DrawClass.DRBG)  # over another session: it is not forgotten
                with pytest.raises(StateUnavailable, match=r"not available since \d\d:\d\d:\d\d UTC"):
                    await poor.draw(8, DrawClass.DRBG)
                with pytest.raises(StateUnavailable, match="cannot look up its consumers now"):
                    await stranger.draw(8, DrawClass.DRBG)  # its certificate is valid
                with pytest.raises(StateUnavailable) as caught:
                    await site.ask("consumer.invite", {"name": "new"})
                assert caught.value.hint
                with pytest.raises(LinkUnavailable, match="the broker cannot use the fleet's store"):
                    await asyncio.to_thread(join, token, str(site.folder / "late"))
                assert any("not available" in note for note in (await site.ask("status"))["notes"])
            finally:
                await asyncio.to_thread(postgres.start)
            async with asyncio.timeout(DEADLINE_S):
                while not await granted(poor):
                    pass
            await stranger.aclose()
            for link in (rich, poor):
                await link.aclose()
            daemon.stop()
            assert dict(fleet.spent()) == {"poor": 8, "rich": 808}  # leases were returned

    asyncio.run(run())


async def granted(link) -> bool:
    """Draw once; return whether the store was available."""
    try:
        await link.draw(8, DrawClass.DRBG)
    except StateUnavailable:
        return False
    return True


@pytest.mark.parametrize("rounds", [1, pytest.param(8, marks=pytest.mark.long)])
def test_brokers_and_primaries_are_killed_while_machines_draw(folder, rounds) -> None:
    """All of a quota can be drawn, and no more; no byte is granted twice."""
    require_postgres()
    with pair() as servers:
        database = servers.database()
        asyncio.run(kill_in_a_loop(FleetSites(folder, database), Failing(servers), rounds))


@pytest.mark.long
def test_primaries_of_debian_13_are_killed_while_machines_draw(folder) -> None:
    """The same holds with the PostgreSQL of the next Debian."""
    require_postgres()
    with debian_13() as root, pair(root) as servers:
        asyncio.run(kill_in_a_loop(FleetSites(folder, servers.database()), Failing(servers), 2))


@pytest.mark.long
def test_patroni_replaces_a_primary_while_machines_draw(folder) -> None:
    """A promotion by Patroni behaves like a manual one."""
    with patroni_pair() as servers:
        asyncio.run(kill_in_a_loop(FleetSites(folder, servers.database()), servers, 2))


@pytest.mark.parametrize("synchronous", [True, False], ids=["synchronous", "asynchronous"])
def test_a_quota_holds_only_with_a_synchronous_standby(folder, synchronous) -> None:
    """A lease that the standby never had is not drawn twice.

    The negative control: with an asynchronous standby, the quota is exceeded.
    """
    require_postgres()
    with pair(synchronous=synchronous) as servers:
        fleet = FleetSites(folder, servers.database(), ("a", "b"), allow_async=not synchronous)
        drawer = asyncio.run(drawn_over_a_failure(fleet, servers))
        audit([drawer])
        assert dict(fleet.spent()) == {"web01": QUOTA}
        assert (drawer.received <= QUOTA) == synchronous


async def drawn_over_a_failure(fleet: FleetSites, servers: Pair) -> Drawer:
    """Begin to draw without a standby, kill the primary, and draw the rest."""
    dice, (primary, standby) = random.Random(5), servers
    async with fleet.running():
        drawer = Drawer(await fleet.enrol("web01", fleet.sites[0], quota=f"{QUOTA}B/week"))
        position = primary.sql("SELECT pg_current_wal_lsn()")[0][0]
        caught_up = f"SELECT pg_last_wal_replay_lsn() >= '{position}'"
        await until(lambda: standby.sql(caught_up)[0][0], "the standby has the consumer")
        await asyncio.to_thread(standby.kill)
        waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        async with asyncio.TaskGroup() as group:
            group.create_task(drawer.draw_on(fleet.failover(drawer.identity, dice), dice))
            await until(lambda: drawer.serials or primary.sql(waiting), "a lease is used, or waits")
            await asyncio.to_thread(primary.kill)
            await asyncio.to_thread(standby.start)
            await asyncio.to_thread(standby.promote)
        await draw_the_rest(fleet, drawer, dice)
    return drawer


async def draw_the_rest(fleet: FleetSites, drawer: Drawer, dice: random.Random) -> None:
    """Draw at each site until the quota is used up."""
    for site in fleet.sites:
        rest = fleet.failover(drawer.identity, dice, [site])
        await drawer.draw_on(rest, dice, MAX_DRAW_BYTES)


class Failing:
    """A pair with a primary that is killed repeatedly."""

    def __init__(self, servers) -> None:
        self._servers = servers

    def fail(self) -> None:
        """Kill the primary, promote the standby, and make the old one its standby."""
        old, new = self._servers
        old.kill()
        new.promote()
        self._servers = self._servers.turned()


async def kill_in_a_loop(fleet: FleetSites, servers: Failing | PatroniPair, rounds: int) -> None:
    dice = random.Random(7)
    async with fleet.running() as daemons:
        names = ("web01", "db01")
        drawers = [
            Drawer(await fleet.enrol(name, fleet.sites[0], quota=f"{BIG_QUOTA}B/week")) for name in names
        ]
        links = [fleet.failover(drawer.identity, dice) for drawer in drawers]

        async def until_more() -> None:
            enough = [len(drawer.serials) + 20 for drawer in drawers]
            await until(
                lambda: all(len(each.serials) >= n for each, n in zip(drawers, enough, strict=True)), "draws"
            )

        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(drawer.draw_on(link, dice, 64))
                for drawer, link in zip(drawers, links, strict=True)
            ]
            for _ in range(rounds):
                await until_more()
                number = dice.randrange(len(daemons))
                daemons[number].kill()
                await until_more()
                daemons[number].start()
                await fleet.sites[number].until_healthy(share=0.1)
                await until_more()
                await asyncio.to_thread(servers.fail)
                await until_more()
            for task in tasks:
                task.cancel()
        for drawer in drawers:
            await draw_the_rest(fleet, drawer, dice)
        audit(drawers)
        assert dict(fleet.spent()) == dict.fromkeys(names, BIG_QUOTA)
        # a round can lose a killed broker's lease, one in doubt at each site, one not returned
        least = BIG_QUOTA * (1 - LOST) ** ((2 + len(fleet.sites)) * rounds)
        assert all(least < drawer.received <= BIG_QUOTA for drawer in drawers)
