"""Leases on a real PostgreSQL."""

import threading
import time

import psycopg
import pytest

from drawwell.entropy.blocks import DrawClass
from drawwell.entropy.leased_quota import LeaseAsk, Unused
from drawwell.fleet.connection import Address
from drawwell.fleet.leases import Leases
from drawwell.fleet.store import PostgresStore
from drawwell.state.rows import ConsumerRow
from drawwell.testing.waiting import wait_until
from drawwell.units import Allowance

DAY = Allowance(8000, 86400.0)
AGES = 200 * 365 * 86400.0
"""A period that never ends during a test."""


@pytest.fixture
def leases(fleet_database):
    leases = Leases(Address(fleet_database.broker), "site-a")
    yield leases
    leases.close()


def ask(leases, want, *, rate=None, total=None, name="web01"):
    return leases.lease({name: LeaseAsk(want, rate, total)})[name]


def test_a_lease_is_an_eighth_of_what_is_left(leases) -> None:
    """Leases shrink with the rest; the last request gets the last bytes."""
    grants = []
    while (grant := ask(leases, 100, total=Allowance(8000, AGES))).granted_bytes:
        grants.append(grant.granted_bytes)

    assert grants[:3] == [1000, 875, 765]
    assert sum(grants) + grant.remaining_bytes == 8000
    assert (grant.reason, grant.remaining_bytes < 100) == ("quota", True)


def test_a_refused_lease_ends_with_the_period(leases) -> None:
    """If the total is used up, the wait is the rest of the store's period."""
    ask(leases, 8000, total=DAY)
    grant = ask(leases, 1, total=DAY)

    rest_s = 86400 - time.time() % 86400
    assert grant.reason == "quota"
    assert grant.wait_s == pytest.approx(rest_s, abs=60)
    assert grant.ends_s == grant.wait_s


def test_a_total_begins_again_with_the_next_period(leases) -> None:
    """After a short period, a new lease is granted."""
    total = Allowance(10, 0.2)
    first = ask(leases, 10, total=total)
    again = wait_until(
        lambda: (lease := ask(leases, 10, total=total)).granted_bytes and lease, "a new period"
    )

    assert again.period > first.period


def test_what_is_given_back_can_be_leased_again(leases) -> None:
    """Unused bytes return only to the total of their own period."""
    grant = ask(leases, 8000, total=Allowance(8000, AGES))
    leases.give_back({"web01": Unused(grant.period + 1, 500)})
    assert ask(leases, 1, total=Allowance(8000, AGES)).reason == "quota"

    leases.give_back({"web01": Unused(grant.period, 500)})
    assert ask(leases, 500, total=Allowance(8000, AGES)).granted_bytes == 500


def test_a_rate_grants_its_burst_and_then_its_rate(leases) -> None:
    """The first lease is one second of the rate; the wait for more is exact."""
    rate = Allowance(1000, 1.0)
    assert ask(leases, 10, rate=rate).granted_bytes == 1000
    refused = ask(leases, 1000, rate=rate)

    assert refused.reason == "rate"
    assert 0 < refused.wait_s <= 1.0


def test_a_draw_larger_than_the_burst_is_saved_up_for(leases) -> None:
    """More than one second of the rate is granted at once, later."""
    rate = Allowance(1000, 1.0)
    assert ask(leases, 3000, rate=rate).granted_bytes == 3000
    assert 1.9 < ask(leases, 1, rate=rate).wait_s <= 2.0  # the burst of one second is granted first


def test_the_limits_of_the_store_count(fleet_database, leases) -> None:
    """A broker cannot lease more than the limit, or for a revoked consumer."""
    store = PostgresStore(Address(fleet_database.broker), "a", lambda: Address(fleet_database.owner))
    row = ConsumerRow("web01", None, Allowance(800, AGES), frozenset(DrawClass), created=1.0)
    store.put_consumer(row)
    assert ask(leases, 900, total=Allowance(10**9, AGES)).reason == "quota"
    assert ask(leases, 10, total=Allowance(10**9, AGES)).granted_bytes == 100

    store.revoke("web01", 2.0)
    store.close()
    assert ask(leases, 10, total=Allowance(10**9, AGES)).reason == "revoked"


def test_rows_are_dropped_a_day_after_their_period(fleet_database, leases) -> None:
    """Rows of a period or an arrival that lasts stay."""
    for name, rate, total in (
        ("old", None, Allowance(1, 0.001)), ("total", None, Allowance(1, AGES)), ("rate", DAY, None),
    ):  # fmt: skip
        ask(leases, 1, name=name, rate=rate, total=total)
    with psycopg.connect(fleet_database.owner, autocommit=True) as owner:
        rows = "SELECT consumer FROM drawwell.lease ORDER BY consumer"
        leases.drop_ended()
        assert len(owner.execute(rows).fetchall()) == 3
        owner.execute("UPDATE drawwell.lease SET ends_us = ends_us - 90000000000 WHERE ends_us > 0")
        leases.drop_ended()
        assert owner.execute(rows).fetchall() == [("rate",), ("total",)]


def test_brokers_that_lease_at_once_never_exceed_a_total(fleet_database) -> None:
    """Four brokers with different orders share each total exactly."""
    total, names = Allowance(20_000, AGES), [f"c{number}" for number in range(20)]
    granted: list[tuple[str, int]] = []

    def lease(broker: int) -> None:
        leases = Leases(Address(fleet_database.broker), f"site-{broker}")
        order = names[broker:] + names[:broker]
        while got := [
            (name, grant.granted_bytes)
            for name, grant in leases.lease({name: LeaseAsk(64, None, total) for name in order}).items()
            if grant.granted_bytes
        ]:
            granted.extend(got)
        leases.close()

    threads = [threading.Thread(target=lease, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    sums = {name: sum(n for who, n in granted if who == name) for name in names}
    assert max(sums.values()) <= 20_000
    assert min(sums.values()) > 20_000 - 64


def test_brokers_that_lease_at_once_keep_a_rate(fleet_database) -> None:
    """In t seconds three brokers lease at most rate * t + burst."""
    rate, granted, begun = Allowance(10_000, 1.0), [], time.monotonic()

    def lease(broker: int) -> None:
        leases = Leases(Address(fleet_database.broker), f"site-{broker}")
        asks = ({"web01": LeaseAsk(10, rate, None)} for _ in range(100))
        granted.extend(leases.lease(each)["web01"].granted_bytes for each in asks)
        leases.close()

    threads = [threading.Thread(target=lease, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 10_000 <= sum(granted) <= 10_000 * (time.monotonic() - begun) + 10_000
