"""The choice of connections to drop at a full door; handshake budgets."""

import hashlib
import os
import threading
import time
from dataclasses import dataclass

import pytest

from drawwell.doors.admission import (
    ARRIVALS_AT_ONCE,
    BUSY,
    MAX_KNOWN,
    MAX_USERS,
    Budget,
    Places,
    Spare,
    UserBudgets,
    source_of,
    thread_times,
)


@dataclass(eq=False)
class Stranger:
    """A connection that has been silent for a given time."""

    address: str
    silent_s: float = 5.0

    def quiet_s(self, now: float) -> float:
        return self.silent_s


def crowd(places: Places[Stranger], address: str, count: int, silent_s: float = 5.0) -> list[Stranger]:
    """Take `count` places for connections from an address."""
    comers = [Stranger(address, silent_s) for _ in range(count)]
    for comer in comers:
        places.take(comer)
    return comers


def test_the_address_that_holds_the_most_gives_one_up() -> None:
    """A single connection from another address stays, whatever the order."""
    places = Places[Stranger]()
    crowd(places, "192.0.2.1", 1)
    flood = crowd(places, "192.0.2.2", 3)
    crowd(places, "192.0.2.3", 1)
    assert places.one_too_many(0.0) is flood[0]


def test_the_one_that_is_waited_for_the_longest_goes_first() -> None:
    """Within one address, the connection that was silent longest is dropped."""
    places = Places[Stranger]()
    crowd(places, "192.0.2.1", 2, silent_s=1.0)
    (stalled,) = crowd(places, "192.0.2.1", 1, silent_s=4.0)
    crowd(places, "192.0.2.1", 2, silent_s=2.0)
    assert places.one_too_many(0.0) is stalled


def test_the_newest_is_dropped_if_none_is_waited_for() -> None:
    """Connections that reconnect at once do not displace nearly finished ones."""
    places = Places[Stranger]()
    comers = crowd(places, "192.0.2.1", 3, silent_s=0.1)
    assert places.one_too_many(0.0) is comers[-1]


def test_a_known_address_may_hold_four_times_as_many() -> None:
    """Four places of a known address count as one; its fifth can be dropped."""
    places = Places[Stranger]()
    places.remember("192.0.2.1")
    crowd(places, "192.0.2.1", 7)
    strangers = crowd(places, "192.0.2.2", 2)
    assert places.one_too_many(0.0) is strangers[0]
    crowd(places, "192.0.2.1", 2)
    assert places.one_too_many(0.0).address == "192.0.2.1"


def test_releasing_a_place_twice_is_harmless() -> None:
    """Releasing twice, or without having a place, changes nothing."""
    places = Places[Stranger]()
    (one, other) = crowd(places, "192.0.2.1", 2)
    places.give_up(one)
    places.give_up(one)
    places.give_up(Stranger("192.0.2.9"))
    assert (len(places), list(places)) == (1, [other])


def test_the_address_that_was_welcomed_the_longest_ago_is_forgotten() -> None:
    """The number of known addresses is limited; an admission refreshes one."""
    places = Places[Stranger]()
    for number in range(MAX_KNOWN):
        places.remember(str(number))
    places.remember("0")
    places.remember("new")
    assert (places.known("0"), places.known("1"), places.known("new")) == (True, False, True)


@pytest.mark.parametrize(
    ("peer", "source"),
    [
        (("192.0.2.7", 4711), "192.0.2.7"),
        (("::ffff:192.0.2.7", 4711, 0, 0), "192.0.2.7"),
        (("2001:db8:1:2:3:4:5:6", 4711, 0, 0), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 4711, 0, 2), "fe80::/64"),
        ("", ""),
        (None, ""),
    ],
)
def test_a_source_is_what_one_customer_gets(peer: object, source: str) -> None:
    """A key is an IPv4 address, an IPv6 network, or "" for local sockets."""
    assert source_of(peer) == source


def test_handshakes_get_their_share_of_the_time_and_no_more() -> None:
    """A minute of handshakes gets its share, the saved budget and one more."""
    budget, now, spent = Budget(0.2, 0.5), 1000.0, 0.0
    while now < 1060.0:
        if wait_s := budget.wait_s(now):
            now += wait_s + 1e-9
            continue
        budget.spend(0.01)
        spent += 0.01
        now += 0.01
    assert 12.0 <= spent <= 12.0 + 0.5 + 0.01 + 0.01


def spent_in(seconds: float, used: float) -> float:
    """Return CPU seconds for handshakes while a loop uses `used` of its time."""
    cpu = [0.0]
    budget, now, spent = Budget(0.1, 0.0, 0.9, Spare(lambda: (cpu[0], 0.0, 0.0))), 1000.0, 0.0
    budget.wait_s(now)
    while now < 1000.0 + seconds:
        step_s = 0.001
        if wait_s := budget.wait_s(now):
            step_s = wait_s + 1e-9
        else:
            budget.spend(step_s)
            spent += step_s
        now += step_s
        cpu[0] += used * step_s
    return spent


def test_handshakes_may_use_what_the_loop_leaves() -> None:
    """An idle loop leaves nine tenths of a CPU, a busy loop a tenth."""
    assert spent_in(10.0, 0.0) == pytest.approx(9.0, rel=0.1)
    assert spent_in(10.0, BUSY / 2) == pytest.approx(5.0, rel=0.1)
    for used in (BUSY, 1.0):
        assert spent_in(10.0, used) == pytest.approx(1.0, rel=0.1)


def test_a_loop_that_gets_busy_is_noticed_at_once() -> None:
    """The load is measured over a twentieth of a second, not over idle time."""
    cpu = [0.0]
    spare = Spare(lambda: (cpu[0], 0.0, 0.0))
    assert spare.rate(0.0, 1.0, 1000.0) == 1.0
    cpu[0] += 0.06
    assert spare.rate(0.0, 1.0, 1000.06) == 0.0
    assert spare.rate(0.0, 1.0, 1000.07) == 0.0
    assert spare.rate(0.0, 1.0, 1000.2) == 1.0


def test_a_cpu_that_other_programs_take_is_no_rest() -> None:
    """A loop that gets half a CPU and uses it is busy: a tenth of it is left."""
    times = [0.0, 0.0, 0.0]
    spare = Spare(lambda: (times[0], times[1], times[2]))
    spare.rate(0.0, 1.0, 1000.0)
    times[:] = 0.5, 0.5, 0.0
    assert spare.rate(0.1, 0.9, 1001.0) == pytest.approx(0.05)


def test_a_wait_for_a_thread_of_its_own_is_no_wait() -> None:
    """Waiting for the process's own threads does not count as waiting."""
    times = [0.0, 0.0, 0.0]
    spare = Spare(lambda: (times[0], times[1], times[2]))
    spare.rate(0.0, 1.0, 1000.0)
    times[:] = BUSY / 2, 0.5, 0.5
    assert spare.rate(0.0, 1.0, 1001.0) == pytest.approx(0.5)


def test_the_wait_for_a_cpu_is_measured() -> None:
    """Two threads on one CPU wait for each other; each measures the other."""
    waits, block = list[list[float]](), bytes(100_000)

    def compete() -> None:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        before, ends = thread_times(), time.thread_time() + 0.1
        while time.thread_time() < ends:
            hashlib.sha256(block).digest()  # without the GIL
        waits.append([new - old for new, old in zip(thread_times(), before, strict=True)])

    threads = [threading.Thread(target=compete) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for used_s, _waited_s, others_s in waits:
        assert used_s >= 0.1
        assert others_s > 0
    assert max(waited_s for _, waited_s, _ in waits) > 0


def test_no_more_is_saved_than_the_burst() -> None:
    """A quiet day does not save up a day's worth of handshakes."""
    budget = Budget(0.2, 0.5)
    budget.wait_s(86_400.0)
    budget.spend(0.6)
    assert budget.wait_s(86_400.0) == pytest.approx(0.5)


def test_each_local_user_has_a_budget_of_its_own() -> None:
    """A flood uses up its own budget; users without access share a small one."""
    budgets = UserBudgets()
    assert sum(budgets.admit(1000, 5.0) for _ in range(5000)) == ARRIVALS_AT_ONCE + 1
    assert budgets.admit(1001, 5.0)
    assert not budgets.admit(1000, 5.0)
    assert budgets.admit(1000, 6.0)
    assert sum(budgets.admit(None, 5.0) for _ in range(5000)) < ARRIVALS_AT_ONCE / 10


def test_budgets_of_users_are_bounded() -> None:
    """Only the most recent of many users are remembered."""
    budgets = UserBudgets()
    for user in range(3 * MAX_USERS):
        budgets.admit(user, 0.0)
    assert len(budgets._budgets) == MAX_USERS
