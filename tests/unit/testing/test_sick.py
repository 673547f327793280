"""The failing sources have the faults of their names, reproducibly."""

import pytest

from drawwell.testing import sick


def test_good_is_the_same_every_time_and_differs_by_seed() -> None:
    """Equal seeds give equal samples for any read sizes; others differ."""
    source = sick.good(1)

    assert source.read(10) + source.read(9990) == sick.good(1).read(10_000) != sick.good(2).read(10_000)


def test_stuck_counter_and_loop_repeat_themselves() -> None:
    """The period is 1 if stuck, 256 for a counter, the argument for a loop."""
    assert sick.stuck(7).read(5000) == b"\7" * 5000
    assert sick.counter(250, 3).read(4) == bytes([250, 253, 0, 3])
    again = sick.loop(37).read(370)
    assert again == again[:37] * 10
    assert len({*again[:37]}) > 20


@pytest.mark.parametrize("p_one", [0.0, 0.25, 0.6, 0.75])
def test_biased_bits_have_their_share_of_ones(p_one: float) -> None:
    """The share of ones in 2**21 biased bits is p within five sigma."""
    data = sick.biased(p_one).read(1 << 18)
    share = int.from_bytes(data, "big").bit_count() / (1 << 21)

    assert abs(share - p_one) <= 5 * (0.25 / (1 << 21)) ** 0.5


def test_replay_stands_where_it_was_put() -> None:
    """Replayed samples equal those at the given distance; good samples follow."""
    data = sick.replaying(at=1000, distance=300, length=64).read(5000)
    plain = sick.good().read(4936)

    assert data == plain[:1000] + plain[700:764] + plain[1000:]


@pytest.mark.parametrize(("at", "distance", "length"), [(10, 20, 5), (100, 50, 60), (100, 50, 0)])
def test_replay_refuses_what_it_cannot_do(at: int, distance: int, length: int) -> None:
    """A replay of samples that do not exist yet is refused."""
    with pytest.raises(ValueError, match="length <= distance <= at"):
        sick.replaying(at, distance, length)


def test_dead_source_ends() -> None:
    """A dead source returns its samples, then none."""
    source = sick.dead_after(100)

    assert [len(source.read(64)) for _ in range(3)] == [64, 36, 0]


def test_splice_loses_nothing_of_a_source_half_read() -> None:
    """A source spliced after a partial read continues with its next sample."""
    source = sick.good()
    first = source.read(10)

    assert sick.spliced(first, source).read(9000) == sick.good().read(9000)
