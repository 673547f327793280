"""A quota's rate, total, reservations and clocks, in virtual time."""

import math

import pytest

from drawwell.entropy.quota import Quota, QuotaState
from drawwell.errors import DrawRefused, QuotaExceeded
from drawwell.units import Allowance

NOON = 1_800_000_000.0  # 2027-01-15 08:00 UTC, late enough for coarse floats
DAY = 86400
PER_SECOND = Allowance(4096, 1)
PER_DAY = Allowance(10_000, DAY)


def draw(quota: Quota, n: int, now: float) -> None:
    """Draw like a broker that never crashes."""
    quota.check(n, now)
    state = quota.reservation(n, now)
    if state is not None:
        quota.confirm(state)
    assert quota.admit(n, now)


def refusal(quota: Quota, n: int, now: float) -> float:
    with pytest.raises(QuotaExceeded) as caught:
        quota.check(n, now)
    assert caught.value.retry_after_s is not None
    assert not caught.value.estimate
    return caught.value.retry_after_s


def test_new_consumer_has_one_second_of_its_rate() -> None:
    """A new consumer can draw its burst and not one byte more."""
    quota = Quota(PER_SECOND, None, now=NOON)
    draw(quota, 4096, NOON)

    assert refusal(quota, 1, NOON) == pytest.approx(1 / 4096, abs=1e-6)


def test_bucket_does_not_grow_past_one_second_of_the_rate() -> None:
    """After an idle hour the bucket has one second of the rate."""
    quota = Quota(PER_SECOND, None, now=NOON)
    draw(quota, 4096, NOON + 3600)

    assert refusal(quota, 1, NOON + 3600) > 0


def test_large_draw_is_saved_up_for() -> None:
    """After a refusal the bucket grows to the large draw, which then succeeds."""
    quota = Quota(PER_SECOND, None, now=NOON)
    wait_s = refusal(quota, 3 * 4096, NOON)
    assert wait_s == pytest.approx(2, abs=1e-6)

    draw(quota, 3 * 4096, NOON + wait_s)
    refusal(quota, 1, NOON + wait_s)
    draw(quota, 4096, NOON + 100)
    refusal(quota, 1, NOON + 100)


def test_waiting_alone_does_not_save_up() -> None:
    """Without a refusal first, a draw above the burst is never granted."""
    quota = Quota(PER_SECOND, None, now=NOON)

    refusal(quota, 4097, NOON + 1000)


def test_total_comes_back_with_the_next_period() -> None:
    """The total is reset at multiples of the period since the epoch."""
    quota = Quota(None, PER_DAY, now=NOON)
    draw(quota, 10_000, NOON)

    assert quota.left(NOON) == 0
    assert refusal(quota, 1, NOON) == DAY - NOON % DAY
    assert quota.left(NOON + DAY - NOON % DAY) == 10_000


def test_rate_and_total_hold_together() -> None:
    """With both limits the later time to retry is reported."""
    quota = Quota(Allowance(100, 1), PER_DAY, now=NOON)
    for i in range(100):
        draw(quota, 100, NOON + i)

    assert refusal(quota, 1, NOON + 99) == DAY - NOON % DAY - 99


def test_draw_over_the_whole_total_is_refused_for_good() -> None:
    """A draw above the total has no time to retry."""
    with pytest.raises(DrawRefused, match="exceeds the quota") as caught:
        Quota(None, PER_DAY, now=NOON).check(10_001, NOON)
    assert caught.value.retry_after_s is None
    assert caught.value.hint


def test_no_limits_means_no_account() -> None:
    """Without rate and total every draw passes, and nothing is stored."""
    quota = Quota(None, None, now=NOON)
    quota.check(10**12, NOON)

    assert (quota.reservation(10**12, NOON), quota.left(NOON)) == (None, None)


@pytest.mark.parametrize("n", [0, -1])
def test_draw_of_nothing_is_a_mistake(n: int) -> None:
    """A size below one byte is an error."""
    with pytest.raises(ValueError, match="at least one byte"):
        Quota(None, None, now=NOON).check(n, NOON)


@pytest.mark.parametrize("allowance", [Allowance(0, 1), Allowance(1, 0), Allowance(1, -1)])
def test_allowance_must_be_positive(allowance: Allowance) -> None:
    """A zero quota is refused: revoke the consumer instead."""
    with pytest.raises(ValueError, match="allowance"):
        Quota(allowance, None, now=NOON)


def test_reservation_is_one_second_of_the_rate() -> None:
    """Small draws share one reservation, of one second of the rate."""
    quota = Quota(Allowance(100, 1), PER_DAY, now=NOON)
    first = quota.reservation(32, NOON)
    assert first == QuotaState(int(NOON // DAY), DAY, 100)
    quota.confirm(first)
    for _ in range(3):
        assert quota.admit(32, NOON)

    assert quota.reservation(4, NOON) is None
    assert quota.reservation(5, NOON) == QuotaState(int(NOON // DAY), DAY, 196)


def test_reservation_of_a_large_draw_is_that_draw() -> None:
    """Only a draw that needs a larger reservation gets one."""
    quota = Quota(Allowance(100, 1), PER_DAY, now=NOON)

    assert quota.reservation(5000, NOON) == QuotaState(int(NOON // DAY), DAY, 5000)


def test_reservation_never_passes_the_total() -> None:
    """The last reservation of a period ends at its total."""
    quota = Quota(Allowance(6000, 1), PER_DAY, now=NOON)
    draw(quota, 6000, NOON)

    assert quota.reservation(1, NOON + 1) == QuotaState(int(NOON // DAY), DAY, 10_000)


def test_reservation_without_a_rate_is_a_small_share() -> None:
    """Without a rate, a 1024th of the total is reserved at a time."""
    state = Quota(None, Allowance(2**20, DAY), now=NOON).reservation(1, NOON)

    assert state is not None
    assert state.reserved_bytes == 1024


def test_a_draw_without_its_reservation_is_not_charged() -> None:
    """A draw needs its reservation to be written first."""
    quota = Quota(None, PER_DAY, now=NOON)

    assert not quota.admit(5, NOON)
    assert quota.left(NOON) == 10_000


def test_a_draw_over_a_total_that_was_lowered_is_refused() -> None:
    """A reservation under an old total does not override the new total."""
    quota = Quota(None, PER_DAY, now=NOON)
    quota.confirm(QuotaState(int(NOON // DAY), DAY, 10_000))
    quota.change(None, Allowance(5_000, DAY), NOON)

    with pytest.raises(DrawRefused):
        quota.admit(5_001, NOON)
    assert quota.admit(5_000, NOON)


def test_reservation_of_yesterday_covers_nothing_today() -> None:
    """A new period needs a new reservation."""
    quota = Quota(None, PER_DAY, now=NOON)
    draw(quota, 5, NOON)

    state = quota.reservation(5, NOON + DAY)
    assert state is not None
    assert state.period == int(NOON // DAY) + 1
    assert not quota.admit(5, NOON + DAY)


def test_a_draw_over_the_rate_is_refused_and_not_charged() -> None:
    """An empty bucket refuses, with the time until the draw passes."""
    quota = Quota(PER_SECOND, None, now=NOON, restored=QuotaState(int(NOON // DAY), DAY))

    with pytest.raises(QuotaExceeded) as refused:
        quota.admit(1, NOON)
    assert refused.value.retry_after_s is not None
    assert quota.admit(1, NOON + refused.value.retry_after_s)


def test_restart_counts_what_was_reserved_and_starts_empty() -> None:
    """After a crash the reservation counts as spent, and the bucket is empty."""
    quota = Quota(Allowance(100, 1), PER_DAY, now=NOON)
    state = quota.reservation(10, NOON)
    again = Quota(Allowance(100, 1), PER_DAY, now=NOON, restored=state)

    assert again.left(NOON) == 10_000 - 100
    assert refusal(again, 1, NOON) == pytest.approx(0.01, abs=1e-6)


def test_rated_consumer_without_a_total_is_remembered_too() -> None:
    """One write per day records that the consumer has drawn.

    So a crash does not refill its bucket, and old rows can be dropped.
    """
    quota = Quota(PER_SECOND, None, now=NOON)
    state = quota.reservation(4096, NOON)
    assert state == QuotaState(int(NOON // DAY), DAY)
    quota.confirm(state)
    assert quota.admit(4096, NOON)

    assert quota.reservation(4096, NOON + 1) is None
    assert quota.reservation(4096, NOON + DAY) == QuotaState(int(NOON // DAY) + 1, DAY)
    assert refusal(Quota(PER_SECOND, None, now=NOON, restored=state), 1, NOON) > 0


def test_state_of_a_past_period_is_over() -> None:
    """Yesterday's draws do not count today."""
    yesterday = QuotaState(int(NOON // DAY) - 1, DAY, 9000)

    assert Quota(None, PER_DAY, now=NOON, restored=yesterday).left(NOON) == 10_000


def test_state_of_a_period_to_come_is_kept() -> None:
    """A clock set back does not renew the total before that period ends."""
    tomorrow = QuotaState(int(NOON // DAY) + 1, DAY, 10_000)
    quota = Quota(None, PER_DAY, now=NOON, restored=tomorrow)

    assert quota.left(NOON) == 0
    assert refusal(quota, 1, NOON) == 2 * DAY - NOON % DAY
    assert quota.left(NOON + 2 * DAY - NOON % DAY) == 10_000


def test_state_of_a_year_to_come_is_that_of_tomorrow() -> None:
    """A clock that was once wrong blocks draws for at most two periods."""
    next_year = QuotaState(int(NOON // DAY) + 400, DAY, 10_000)
    quota = Quota(None, PER_DAY, now=NOON, restored=next_year)

    assert quota.left(NOON) == 0
    assert quota.left(NOON + 2 * DAY - NOON % DAY) == 10_000


def test_clock_that_steps_back_while_running_gives_nothing() -> None:
    """Neither the bucket nor the period moves back."""
    quota = Quota(PER_SECOND, PER_DAY, now=NOON)
    draw(quota, 4096, NOON)

    refusal(quota, 1, NOON - 2 * DAY)
    assert quota.left(NOON - 2 * DAY) == 10_000 - 4096


def test_clock_that_steps_back_while_running_takes_nothing() -> None:
    """The bucket keeps its level when the clock is set back."""
    quota = Quota(PER_SECOND, None, now=NOON)

    draw(quota, 4096, NOON - 100)


def test_changed_limits_keep_what_was_spent() -> None:
    """A raised quota adds room without restarting the period."""
    quota = Quota(PER_SECOND, PER_DAY, now=NOON)
    draw(quota, 4096, NOON)
    quota.change(Allowance(8192, 1), Allowance(20_000, DAY), NOON)

    assert quota.left(NOON) == 20_000 - 4096
    assert refusal(quota, 1, NOON) == pytest.approx(1 / 8192, abs=1e-6)


def test_lowered_total_leaves_nothing_below_zero() -> None:
    """A total below the spent amount is used up until the next period."""
    quota = Quota(None, PER_DAY, now=NOON)
    draw(quota, 6000, NOON)
    quota.change(None, Allowance(5000, DAY), NOON)

    assert quota.left(NOON) == 0
    assert refusal(quota, 1, NOON) == DAY - NOON % DAY


@pytest.mark.parametrize("period_s", [3600, 7 * DAY])
def test_other_period_keeps_what_was_spent_in_the_running_one(period_s: int) -> None:
    """A new hourly or weekly total starts with what was spent today."""
    quota = Quota(None, PER_DAY, now=NOON)
    draw(quota, 6000, NOON)
    quota.change(None, Allowance(10_000, period_s), NOON)

    assert quota.left(NOON) == 4000
    draw(quota, 4000, NOON)
    assert refusal(quota, 1, NOON) == period_s - NOON % period_s


def test_other_period_forgets_a_period_that_is_over() -> None:
    """An hour that ended before today does not count."""
    hour_before_midnight = NOON - NOON % DAY - 1800
    state = QuotaState(int(hour_before_midnight // 3600), 3600, 500)

    assert Quota(None, PER_DAY, now=NOON, restored=state).left(NOON) == 10_000


def test_total_taken_away_and_given_back_is_not_forgotten() -> None:
    """Removing and restoring the total does not reset the account."""
    quota = Quota(None, PER_DAY, now=NOON)
    draw(quota, 6000, NOON)
    quota.change(None, None, NOON)
    quota.change(None, PER_DAY, NOON)

    assert quota.left(NOON) == 4000


def test_rate_set_at_run_time_starts_empty() -> None:
    """A consumer that gets a rate starts without a burst."""
    quota = Quota(None, None, now=NOON)
    quota.change(PER_SECOND, None, NOON)

    assert refusal(quota, 4096, NOON) == pytest.approx(1, abs=1e-6)


def test_messages_name_the_limit_as_written() -> None:
    """The refusal shows the limit as the operator wrote it."""
    by_rate = Quota(PER_SECOND, None, now=NOON, restored=QuotaState())
    by_total = Quota(None, Allowance(10, DAY), now=NOON)
    draw(by_total, 10, NOON)

    with pytest.raises(QuotaExceeded, match="rate of 4KiB/s is used up"):
        by_rate.check(1, NOON)
    with pytest.raises(QuotaExceeded, match="quota of 10B/day is used up"):
        by_total.check(1, NOON)


def test_greedy_consumer_gets_its_rate_to_the_byte_for_a_year() -> None:
    """A year of draws at every permitted instant gives exactly rate * time."""
    rate = Allowance(1000, 7)  # 1/7 s is not a whole number of nanoseconds
    quota = Quota(rate, None, now=NOON, restored=QuotaState())
    now, served, size = NOON, 0, 500_000
    while now < NOON + 365 * DAY:
        now += refusal(quota, size, now)
        draw(quota, size, now)
        served += size
        allowed = math.floor((now - NOON) * 1000 / 7)
        assert 0 <= allowed - served <= 1
    assert served > 365 * DAY * 1000 / 7
