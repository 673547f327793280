"""A member of a fleet: the leases it returns, and its reports."""

import asyncio

import pytest

from drawwell.config.load import load
from drawwell.entropy.leased_quota import LeaseAsk, Unused
from drawwell.fleet.heartbeat import OwnRow
from drawwell.fleet.leases import Leases
from drawwell.fleet.member import IDLE_S, FleetMember
from drawwell.fleet.parts import store_address
from drawwell.units import Allowance

TOTAL = Allowance(8000, 200 * 365 * 86400.0)


async def follow(_changes) -> None:
    """Do nothing."""


def describe() -> OwnRow:
    """Return the row of an empty broker."""
    return OwnRow((), "", "", "", {}, 0)


@pytest.fixture
def config(folder, fleet_database):
    path = folder / "drawwell.toml"
    path.write_text(f'[broker]\nname = "site-a"\n[fleet]\nstore = "{fleet_database.broker}"\n')
    return load(str(path))


def remaining(config) -> int:
    """Return the bytes that another broker could still lease."""
    leases = Leases(store_address(config), "site-z")
    grant = leases.lease({"web01": LeaseAsk(1, None, TOTAL)})["web01"]
    leases.give_back({"web01": Unused(grant.period, grant.granted_bytes)})
    leases.close()
    return grant.granted_bytes + grant.remaining_bytes


def test_an_idle_lease_can_be_leased_by_another_broker(config) -> None:
    """A lease is returned when it is idle, and when the broker stops."""
    now = [1000.0]
    member = FleetMember(config, follow, lambda: now[0], describe)
    quota = member.quota("web01", None, TOTAL)

    def draw(n: int) -> None:
        if not quota.admit(n, now[0]):
            quota.confirm(member.lease({"web01": quota.reservation(n, now[0])})["web01"])
            assert quota.admit(n, now[0])

    draw(100)
    assert remaining(config) == 7000
    member._leases.give_back(member._unused(IDLE_S))
    assert remaining(config) == 7000
    now[0] += IDLE_S
    member._leases.give_back(member._unused(IDLE_S))
    assert remaining(config) == 7900
    draw(100)
    member.close()
    assert remaining(config) == 7800


def test_each_life_has_an_epoch_of_its_own(config) -> None:
    """A restarted broker gets another epoch."""
    epochs = []
    for _ in range(2):
        member = FleetMember(config, follow, lambda: 0.0, describe)
        epochs.append(member.boot_epoch)
        member.close()

    assert epochs[0] < epochs[1]


def test_a_member_follows_and_ends(config) -> None:
    """A member's task ends when cancelled; a healthy store causes no note."""
    member = FleetMember(config, follow, lambda: 0.0, describe)

    async def run() -> None:
        async with asyncio.timeout(0.2):  # short: its end is the fact
            await member.run()

    with pytest.raises(TimeoutError):
        asyncio.run(run())
    assert set(member.notes()) == {""}
    member.close()
