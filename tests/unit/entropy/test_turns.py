"""The order of draws: equal shares, weights, no overtaking."""

import sys
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drawwell.entropy.turns import Turn, Turns


def serve(turns: Turns, weights: dict[str, int], rounds: int, need: dict[str, int]) -> dict[str, int]:
    """Keep all consumers waiting for `rounds` turns; return each one's bytes."""
    got = dict.fromkeys(weights, 0)
    for consumer in weights:
        turns.join(consumer, need[consumer])
    for _ in range(rounds):
        turn = turns.first()
        assert turn is not None
        turns.served(turn.consumer, turn.needed_bytes, weights[turn.consumer])
        turns.leave(turn)
        got[turn.consumer] += turn.needed_bytes
        turns.join(turn.consumer, turn.needed_bytes)
    while turn := turns.first():
        turns.leave(turn)
    return got


def test_an_empty_line_has_no_first() -> None:
    """An empty queue has no first entry."""
    assert Turns().first() is None


def test_the_first_to_arrive_goes_first() -> None:
    """Between new consumers, the order of arrival decides."""
    turns = Turns()
    early, _late = turns.join("a", 10), turns.join("b", 1)

    assert turns.first() is early


def test_a_large_request_is_not_passed_over() -> None:
    """The first request stays first, even if a small one follows."""
    turns = Turns()
    large = turns.join("large", 65_536)
    for number in range(100):
        turns.join(f"small{number}", 1)

    assert turns.first() is large


def test_shares_are_equal_whatever_the_size_of_the_requests() -> None:
    """Requests of 32 and of 4,096 bytes get equal shares over time."""
    need = {"small": 32, "large": 4096}
    got = serve(Turns(), dict.fromkeys(need, 1), 20_000, need)

    assert got["small"] == pytest.approx(got["large"], abs=4096 + 32)


def test_shares_follow_the_weights() -> None:
    """A weight of three gets three times the bytes."""
    weights = {"one": 1, "three": 3}
    got = serve(Turns(), weights, 4000, dict.fromkeys(weights, 100))

    assert got["three"] == pytest.approx(3 * got["one"], abs=400)


def test_many_requests_are_no_more_than_one() -> None:
    """50 requests of a consumer get the same share as one."""
    turns = Turns()
    for _ in range(49):
        turns.join("greedy", 100)
    got = serve(turns, {"greedy": 1, "modest": 1}, 1000, {"greedy": 100, "modest": 100})

    assert abs(got["greedy"] - got["modest"]) <= 100


def test_a_rest_saves_no_turns_up() -> None:
    """A consumer that was idle for long is not first for as long."""
    turns = Turns()
    serve(turns, {"busy": 1, "other": 1}, 1000, {"busy": 100, "other": 100})
    got = serve(turns, {"busy": 1, "rested": 1}, 100, {"busy": 100, "rested": 100})

    assert abs(got["busy"] - got["rested"]) <= 200


def test_what_was_had_in_plenty_counts_for_nothing() -> None:
    """Bytes drawn while the queue was empty do not count."""
    turns = Turns()
    for _ in range(1000):
        turns.served("early", 65_536, 1)
    got = serve(turns, {"early": 1, "late": 1}, 100, {"early": 100, "late": 100})

    assert abs(got["early"] - got["late"]) <= 100


def test_leaving_twice_is_harmless() -> None:
    """A request is removed only once; the total need stays correct."""
    turns = Turns()
    kept, left = turns.join("a", 7), turns.join("a", 5)
    turns.leave(left)
    turns.leave(left)

    assert (turns.first(), turns.waiting_bytes, len(turns)) == (kept, 7, 1)


@given(
    st.lists(st.tuples(st.integers(1, 65_536), st.integers(1, 10)), min_size=2, max_size=12),
    st.integers(500, 2000),
)
def test_no_consumer_is_ahead_by_more_than_one_request(consumers: list[tuple[int, int]], rounds: int) -> None:
    """For all sizes and weights, shares differ by at most two requests."""
    names = [str(number) for number in range(len(consumers))]
    need = {name: size for name, (size, _weight) in zip(names, consumers, strict=True)}
    weights = {name: weight for name, (_size, weight) in zip(names, consumers, strict=True)}
    got = serve(Turns(), weights, rounds, need)

    share = [got[name] / weights[name] for name in names]
    slack = max(need[name] / weights[name] for name in names)
    assert max(share) - min(share) <= 2 * slack


@given(st.lists(st.tuples(st.sampled_from("jjlsif"), st.integers(0, 5), st.integers(1, 99)), max_size=80))
def test_the_first_has_the_lowest_pass(steps: list[tuple[str, int, int]]) -> None:
    """After any steps, `first` returns what a search of all requests finds."""
    turns, queued = Turns(), list[Turn]()
    for act, number, n_bytes in steps:
        consumer = str(number)
        if act == "j":
            queued.append(turns.join(consumer, n_bytes))
        elif act == "l" and queued:
            turns.leave(queued.pop(number % len(queued)))
        elif act == "s" and (first := turns.first()):
            turns.served(first.consumer, first.needed_bytes, 1 + number)
            queued.remove(first)
            turns.leave(first)
        elif act == "i":
            turns.served(consumer, n_bytes, 1)
        elif act == "f":
            turns.forget(consumer)
        lowest = min(queued, key=lambda turn: (turns._passes[turn.consumer], turn.order), default=None)
        assert turns.first() is lowest


def test_a_turn_costs_the_same_in_any_crowd() -> None:
    """A draw makes no more calls if more consumers wait."""
    crowds = [steps_per_draw(10), steps_per_draw(3000)]
    assert crowds[1] <= 2 * crowds[0]


def steps_per_draw(consumers: int) -> float:
    """Count the Python calls of a draw while `consumers` wait."""
    turns, calls = Turns(), 0
    for number in range(consumers):
        turns.join(str(number), 32)

    def count(_frame: FrameType, event: str, _what: Any) -> None:
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        for _ in range(100):
            turn = turns.first()
            assert turn
            turns.served(turn.consumer, 32, 1)
            turns.leave(turn)
            turns.join(turn.consumer, 32)
    finally:
        sys.setprofile(before)
    return calls / 100
