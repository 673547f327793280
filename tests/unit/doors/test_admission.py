"""Who keeps a place at a crowded door, and what handshakes may cost."""

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
)


@dataclass(eq=False)
class Stranger:
    """One that has been silent for so long."""

    address: str
    silent_s: float = 5.0

    def quiet_s(self, now: float) -> float:
        return self.silent_s


def crowd(places: Places[Stranger], address: str, count: int, silent_s: float = 5.0) -> list[Stranger]:
    """Let so many come in from there."""
    comers = [Stranger(address, silent_s) for _ in range(count)]
    for comer in comers:
        places.take(comer)
    return comers


def test_the_address_that_holds_the_most_gives_one_up() -> None:
    """Whoever came first or last, a single connection from elsewhere stays."""
    places = Places[Stranger]()
    crowd(places, "192.0.2.1", 1)
    flood = crowd(places, "192.0.2.2", 3)
    crowd(places, "192.0.2.3", 1)
    assert places.one_too_many(0.0) is flood[0]


def test_the_one_that_is_waited_for_the_longest_goes_first() -> None:
    """Of one address it is the quietest that has to go."""
    places = Places[Stranger]()
    crowd(places, "192.0.2.1", 2, silent_s=1.0)
    (stalled,) = crowd(places, "192.0.2.1", 1, silent_s=4.0)
    crowd(places, "192.0.2.1", 2, silent_s=2.0)
    assert places.one_too_many(0.0) is stalled


def test_the_newest_goes_where_everybody_is_about_his_handshake() -> None:
    """A crowd that comes back at once does not crowd out those who are nearly inside."""
    places = Places[Stranger]()
    comers = crowd(places, "192.0.2.1", 3, silent_s=0.1)
    assert places.one_too_many(0.0) is comers[-1]


def test_a_known_address_may_hold_four_times_as_many() -> None:
    """Four of it count as one of a stranger's; with a fifth it is the one that gives one up."""
    places = Places[Stranger]()
    places.remember("192.0.2.1")
    crowd(places, "192.0.2.1", 7)
    strangers = crowd(places, "192.0.2.2", 2)
    assert places.one_too_many(0.0) is strangers[0]
    crowd(places, "192.0.2.1", 2)
    assert places.one_too_many(0.0).address == "192.0.2.1"


def test_a_place_that_was_given_up_is_nobodys() -> None:
    """Giving up twice, or what one never held, changes nothing."""
    places = Places[Stranger]()
    (one, other) = crowd(places, "192.0.2.1", 2)
    places.give_up(one)
    places.give_up(one)
    places.give_up(Stranger("192.0.2.9"))
    assert (len(places), list(places)) == (1, [other])


def test_the_address_that_was_welcomed_the_longest_ago_is_forgotten() -> None:
    """As many are remembered as are said; a new welcome keeps an old address."""
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
    """An IPv4 address however it is written, an IPv6 network, nothing for a socket of this machine."""
    assert source_of(peer) == source


def test_handshakes_get_their_share_of_the_time_and_no_more() -> None:
    """In a minute of handshakes without a pause: the share of it, what was saved, and one more."""
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
    """CPU seconds for handshakes, next to a loop that uses `used` of its time."""
    cpu = [0.0]
    budget, now, spent = Budget(0.1, 0.0, 0.9, Spare(lambda: cpu[0])), 1000.0, 0.0
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
    """A loop that rests leaves nine tenths of a CPU, a busy one a tenth."""
    assert spent_in(10.0, 0.0) == pytest.approx(9.0, rel=0.1)
    assert spent_in(10.0, BUSY / 2) == pytest.approx(5.0, rel=0.1)
    for used in (BUSY, 1.0):
        assert spent_in(10.0, used) == pytest.approx(1.0, rel=0.1)


def test_a_loop_that_gets_busy_is_noticed_at_once() -> None:
    """What is left is looked at over a twentieth of a second, not over a long rest before."""
    cpu = [0.0]
    spare = Spare(lambda: cpu[0])
    assert spare.part(1000.0) == 1.0
    cpu[0] += 0.06
    assert spare.part(1000.06) == 0.0
    assert spare.part(1000.07) == 0.0
    assert spare.part(1000.2) == 1.0


def test_no_more_is_saved_than_the_burst() -> None:
    """A day of quiet does not allow a day's worth of handshakes."""
    budget = Budget(0.2, 0.5)
    budget.wait_s(86_400.0)
    budget.spend(0.6)
    assert budget.wait_s(86_400.0) == pytest.approx(0.5)


def test_each_local_user_has_a_budget_of_its_own() -> None:
    """A flood uses up its own, and comes back with its rate; all who may not draw share a small one."""
    budgets = UserBudgets()
    assert sum(budgets.admit(1000, 5.0) for _ in range(5000)) == ARRIVALS_AT_ONCE + 1
    assert budgets.admit(1001, 5.0)
    assert not budgets.admit(1000, 5.0)
    assert budgets.admit(1000, 6.0)
    assert sum(budgets.admit(None, 5.0) for _ in range(5000)) < ARRIVALS_AT_ONCE / 10


def test_budgets_of_users_are_bounded() -> None:
    """Of many users those that came last are remembered."""
    budgets = UserBudgets()
    for user in range(3 * MAX_USERS):
        budgets.admit(user, 0.0)
    assert len(budgets._budgets) == MAX_USERS
