"""The quota for any history of draws, waits and crashes."""

from dataclasses import dataclass

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from drawwell.entropy.quota import Quota, QuotaState
from drawwell.errors import DrawRefused, QuotaExceeded
from drawwell.units import Allowance
from support.examples import examples

START = 1_800_000_000.0
SLACK_BYTES = 1e-3  # floats are up to 238 ns off; at the largest rate that is less than this

rates = st.none() | st.builds(Allowance, st.integers(1, 4000), st.sampled_from([1, 7, 60, 0.3]))
totals = st.none() | st.builds(Allowance, st.integers(1, 20_000), st.sampled_from([10, 60, 61.5, 3600]))
pauses = st.floats(0, 100) | st.sampled_from([0.001, 0.5, 1, 10, 60, 3600])
sizes = st.integers(1, 200) | st.integers(1, 20_000)


@dataclass(frozen=True)
class Served:
    at: float
    size: int


def reported_instant_is_exact(quota: Quota, n: int, now: float) -> float:
    """Wait as long as required; return the time afterwards."""
    try:
        quota.check(n, now)
    except DrawRefused:
        return now
    except QuotaExceeded as refused:
        instant = now + (refused.retry_after_s or 0)
        if instant - 0.001 > now:
            with pytest.raises(QuotaExceeded):
                quota.check(n, instant - 0.001)
        quota.check(n, instant)
        return instant
    return now


class QuotaMachine(RuleBasedStateMachine):
    """A broker, its disk, and one consumer with arbitrary requests."""

    @initialize(rate=rates, total=totals)
    def begin(self, rate: Allowance | None, total: Allowance | None) -> None:
        self.rate, self.total, self.now = rate, total, START
        self.disk: QuotaState | None = None
        self.quota = Quota(rate, total, now=self.now)
        self.history: list[Served] = []
        self.largest_asked = 0

    @rule(pause=pauses)
    def time_passes(self, pause: float) -> None:
        self.now += pause

    @rule(n=sizes, crash=st.sampled_from(["no", "no", "no", "before the write", "after the write", "served"]))
    def consumer_draws(self, n: int, crash: str) -> None:
        if not self._passes(n):
            return
        state = self.quota.reservation(n, self.now)
        if state is not None and crash != "before the write":
            self._ahead_is_bounded(state, n)
            self.disk = state
            self.quota.confirm(state)
        if crash in ("no", "served"):
            assert self.quota.admit(n, self.now)
            self.history.append(Served(self.now, n))
        if crash != "no":
            self._restart()

    @rule(n=sizes)
    def consumer_waits_as_required(self, n: int) -> None:
        """A draw at the reported time passes, and a millisecond earlier does not."""
        if self.total is None or n <= self.total.limit_bytes:
            self.largest_asked = max(self.largest_asked, n)
        self.now = reported_instant_is_exact(self.quota, n, self.now)

    @rule()
    def broker_crashes(self) -> None:
        self._restart()

    @invariant()
    def served_is_reserved_on_disk(self) -> None:
        if self.total is None or not self.history:
            return
        assert self.disk is not None
        assert self._served_in(self.disk.period) <= self.disk.reserved_bytes
        self.quota.left(self.now)

    @invariant()
    def total_is_never_passed(self) -> None:
        if self.total is not None:
            for period in {int(served.at // self.total.period_s) for served in self.history}:
                assert self._served_in(period) <= self.total.limit_bytes

    @invariant()
    def rate_is_never_passed_in_any_window(self) -> None:
        if self.rate is None or not self.history:
            return
        per_second = self.rate.limit_bytes / self.rate.period_s
        largest = max(per_second, self.largest_asked) + SLACK_BYTES
        last = self.history[-1]
        in_window = 0
        for served in reversed(self.history):
            in_window += served.size
            assert in_window <= per_second * (last.at - served.at) + largest

    def _passes(self, n: int) -> bool:
        try:
            self.quota.check(n, self.now)
        except DrawRefused:
            assert self.total is not None
            assert n > self.total.limit_bytes
            return False
        except QuotaExceeded:
            self.largest_asked = max(self.largest_asked, n)
            return False
        return True

    def _served_in(self, period: int) -> int:
        assert self.total is not None
        return sum(served.size for served in self.history if served.at // self.total.period_s == period)

    def _ahead_is_bounded(self, state: QuotaState, n: int) -> None:
        if self.total is None:
            return
        left = self.quota.left(self.now)
        assert left is not None
        ahead = state.reserved_bytes - (self.total.limit_bytes - left)
        second = self.rate.limit_bytes / self.rate.period_s if self.rate else self.total.limit_bytes / 1024
        assert n <= ahead <= max(n, second)

    def _restart(self) -> None:
        self.quota = Quota(self.rate, self.total, now=self.now, restored=self.disk)


QuotaMachine.TestCase.settings = settings(max_examples=examples(150), stateful_step_count=40, deadline=None)
TestQuotaMachine = QuotaMachine.TestCase


@given(
    era=st.sampled_from([0.0, START]),  # near the epoch a float is finer than 1 ns
    rate=rates,
    total=totals,
    year=st.floats(0, 366 * 86400),
    first=st.integers(1, 20_000),
    n=st.integers(1, 20_000),
)
@settings(max_examples=examples(300), deadline=None)
def test_reported_instant_is_exact_at_any_time_of_the_year(
    era: float, rate: Allowance | None, total: Allowance | None, year: float, first: int, n: int
) -> None:
    """The check passes at ``now + retry_after``, but not 1 ms earlier."""
    now = era + year
    quota = Quota(rate, total, now=now, restored=QuotaState())
    if total is not None:
        state = QuotaState(int(now // total.period_s), total.period_s, min(first, total.limit_bytes))
        quota = Quota(rate, total, now=now, restored=state)
        assume(n <= total.limit_bytes)
    reported_instant_is_exact(quota, n, now)


@given(
    steps=st.lists(
        st.tuples(st.floats(-86400, 86400), st.integers(1, 3000), st.booleans()), min_size=1, max_size=40
    )
)
@settings(max_examples=examples(200), deadline=None)
def test_clock_set_back_never_gives_a_total_twice(steps: list[tuple[float, int, bool]]) -> None:
    """For any clock at restarts, a total is granted once per period."""
    total = Allowance(5000, 3600)
    now, disk, served = START, None, 0
    earliest = latest = START
    quota = Quota(None, total, now=now)
    for step, n, restart in steps:
        if restart:
            now += step
            quota = Quota(None, total, now=now, restored=disk)
        else:
            now += abs(step)
        earliest, latest = min(earliest, now), max(latest, now)
        try:
            quota.check(n, now)
        except QuotaExceeded:
            continue
        state = quota.reservation(n, now)
        if state is not None:
            disk = state
            quota.confirm(state)
        assert quota.admit(n, now)
        served += n
        assert served <= 5000 * (latest // 3600 - earliest // 3600 + 1)
