"""Serving from a lease, and requesting the next one."""

import pytest

from drawwell.entropy.leased_quota import LeaseAsk, LeasedQuota, LeaseGrant, Unused
from drawwell.errors import DrawRefused, PermissionRefused, QuotaExceeded, StateUnavailable
from drawwell.units import Allowance

TOTAL = Allowance(8000, 86400.0)
RATE = Allowance(1000, 1.0)


def leased(grant, *, rate=None, total=TOTAL, now=0.0):
    """Return a quota with one lease, requested at `now`."""
    quota = LeasedQuota(rate, total, lambda: None)
    quota.reservation(1, now)
    quota.confirm(grant)
    return quota


def test_a_lease_is_spent_to_its_last_byte() -> None:
    """Draws are charged to the lease, and the missing bytes are requested."""
    quota = leased(LeaseGrant(100, 7900, 1, 500.0))

    assert [quota.admit(60, 1.0), quota.admit(60, 1.0)] == [True, False]
    assert quota.reservation(60, 1.0) == LeaseAsk(20, None, TOTAL)
    assert quota.left(1.0) == 7940
    quota.confirm(LeaseGrant(20, 7880, 1, 499.0))
    assert quota.admit(60, 1.0)
    assert not quota.admit(1, 1.0)


def test_nothing_is_charged_before_a_lease() -> None:
    """A consumer without a lease waits for one."""
    quota = LeasedQuota(None, TOTAL, lambda: None)

    assert not quota.admit(1, 0.0)
    assert quota.left(0.0) == 8000


def test_no_limit_needs_no_lease() -> None:
    """A consumer without limits never causes a query to the store."""
    quota = LeasedQuota(None, None, lambda: None)

    assert quota.admit(10**9, 0.0)
    assert quota.reservation(10**9, 0.0) is None
    assert quota.left(0.0) is None


def test_a_lease_ends_by_the_time_before_it_was_asked_for() -> None:
    """A slow answer shortens a lease, which never outlives the period."""
    quota = leased(LeaseGrant(100, 7900, 1, 10.0), now=50.0)

    assert quota.admit(1, 59.9)
    assert not quota.admit(1, 60.0)
    assert quota.reservation(1, 60.0) == LeaseAsk(1, None, TOTAL)


def test_a_lease_of_the_next_period_replaces_the_old_one() -> None:
    """Leases of two periods are never added."""
    quota = leased(LeaseGrant(100, 7900, 1, 10.0))
    quota.reservation(200, 1.0)
    quota.confirm(LeaseGrant(200, 7800, 2, 10.0))

    assert quota.admit(200, 2.0)
    assert not quota.admit(1, 2.0)


def test_a_refusal_has_the_time_of_the_store() -> None:
    """A used-up total refuses draws until the store's period ends."""
    quota = leased(LeaseGrant(0, 0, 1, 3600.0, 3600.0, "quota"), now=10.0)

    with pytest.raises(QuotaExceeded, match=r"quota of 7\.812KiB/day is used up") as caught:
        quota.admit(1, 12.0)
    assert caught.value.retry_after_s == 3598.0


def test_a_refused_draw_asks_again_after_a_while() -> None:
    """The request is repeated after a while, for a smaller draw at once."""
    quota = leased(LeaseGrant(100, 7900, 1, 3600.0))
    quota.reservation(500, 1.0)
    quota.confirm(LeaseGrant(0, 300, 1, 3600.0, 3600.0, "quota"))

    with pytest.raises(QuotaExceeded):
        quota.admit(500, 2.0)
    assert not quota.admit(400, 2.0)
    assert not quota.admit(500, 6.0)


def test_a_rate_is_refused_until_its_time() -> None:
    """The wait for a rate is exactly the store's."""
    quota = leased(LeaseGrant(0, wait_s=0.25, reason="rate"), rate=RATE, total=None)

    with pytest.raises(QuotaExceeded, match="rate of 1000B/s is used up") as caught:
        quota.admit(1, 0.1)
    assert caught.value.retry_after_s == pytest.approx(0.15)
    assert not quota.admit(1, 0.25)


def test_a_revoked_consumer_is_refused() -> None:
    """The store may have a revocation before this broker does."""
    quota = leased(LeaseGrant(0, 0, 1, 10.0, reason="revoked"))

    with pytest.raises(PermissionRefused):
        quota.admit(1, 1.0)


def test_a_draw_above_the_total_is_refused_for_good() -> None:
    """No lease is requested if no lease can be large enough."""
    with pytest.raises(DrawRefused):
        LeasedQuota(None, TOTAL, lambda: None).admit(8001, 0.0)


def test_an_idle_lease_goes_back_once() -> None:
    """An idle lease is returned once and no longer served."""
    quota = leased(LeaseGrant(100, 7900, 7, 3600.0))
    quota.admit(40, 5.0)

    assert quota.give_back(34.0, 30.0) is None
    assert quota.give_back(35.0, 30.0) == Unused(7, 60)
    assert quota.give_back(70.0, 30.0) is None
    assert not quota.admit(1, 36.0)


def test_a_lease_of_a_period_that_is_over_does_not_go_back() -> None:
    """Bytes of an earlier period do not count in the next."""
    quota = leased(LeaseGrant(100, 7900, 7, 10.0))

    assert quota.give_back(50.0, 30.0) is None


def test_other_limits_return_the_lease() -> None:
    """Bytes leased under other limits are not served."""
    quota = leased(LeaseGrant(100, 7900, 7, 3600.0))
    quota.change(None, Allowance(50, 86400.0), 1.0)

    assert not quota.admit(1, 2.0)
    assert quota.give_back(2.0, 30.0) == Unused(7, 100)


def test_an_answer_under_the_old_limits_goes_back() -> None:
    """A lease requested before the limits changed is returned."""
    quota = leased(LeaseGrant(100, 7900, 7, 3600.0))
    quota.reservation(200, 1.0)
    quota.change(None, Allowance(50, 86400.0), 1.0)
    quota.confirm(LeaseGrant(100, 7800, 7, 3600.0))

    assert not quota.admit(1, 2.0)
    assert quota.give_back(2.0, 30.0) == Unused(7, 200)


def test_a_broker_that_is_cut_off_serves_nothing() -> None:
    """After the grace period a lease cannot be served."""

    def cut_off() -> None:
        raise StateUnavailable("cut off")

    for rate, total in ((None, None), (None, TOTAL), (RATE, None)):
        quota = LeasedQuota(rate, total, cut_off)
        quota.reservation(1, 0.0)
        quota.confirm(LeaseGrant(100, 7900, 1, 3600.0))
        with pytest.raises(StateUnavailable):
            quota.admit(1, 1.0)


def test_a_copied_machine_serves_no_lease() -> None:
    """A lease that a copy of this machine also has is not served."""
    quota = leased(LeaseGrant(100, 7900, 1, 3600.0))
    quota.forfeit()

    assert not quota.admit(1, 1.0)
    assert quota.give_back(99.0, 30.0) is None
