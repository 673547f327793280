"""Exponential backoff: growth, limit and restart of the waits."""

from drawwell.backoff import Backoff


def test_each_wait_is_twice_the_last_up_to_the_longest() -> None:
    """A quarter of a second doubles up to the limit of one second."""
    backoff = Backoff(0.25, 1.0)
    assert [backoff.next_s() for _ in range(4)] == [0.25, 0.5, 1.0, 1.0]


def test_a_success_starts_again_from_the_first_wait() -> None:
    """After a reset the first wait is the shortest."""
    backoff = Backoff(0.25, 1.0)
    backoff.next_s()
    backoff.reset()
    assert backoff.next_s() == 0.25


def test_jitter_scales_the_wait_and_not_its_growth() -> None:
    """Each wait has a new factor; the next doubles the full length."""
    factors = iter([0.0, 0.5])
    backoff = Backoff(1.0, 8.0, lambda: next(factors))
    assert [backoff.next_s(), backoff.next_s()] == [0.0, 1.0]
