"""SHA-512 conditioning: samples per output, and its accounting."""

from hashlib import sha512

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drawwell.entropy.blocks import TestedBlock
from drawwell.entropy.conditioning import Conditioner
from drawwell.entropy.health import NoiseClaim
from drawwell.testing.sick import good
from drawwell.units import Bits


def of_claim(data: bytes, h: float) -> TestedBlock:
    return TestedBlock(data, NoiseClaim(h).assessed(len(data)))


@pytest.mark.parametrize(("h", "samples"), [(8.0, 72), (6.0, 96), (7.5, 77), (1.0, 576)])
def test_output_is_sha512_of_as_few_samples_as_hold_576_bits(h: float, samples: int) -> None:
    """An output takes ceil(576 / H) samples; one less gives none."""
    data = good().read(1000)
    conditioner = Conditioner()

    assert not conditioner.feed(of_claim(data[: samples - 1], h))
    output = Conditioner().feed(of_claim(data[:samples], h))
    assert output.data == sha512(data[:samples]).digest()
    assert isinstance(output.data, bytearray)


def test_next_output_goes_on_with_the_next_sample() -> None:
    """At H = 6, 1,000 samples give ten outputs of 96; forty are pending."""
    data = good().read(1000)
    conditioner = Conditioner()
    outputs = conditioner.feed(of_claim(data, 6.0))

    assert outputs.data == b"".join(sha512(data[n : n + 96]).digest() for n in range(0, 960, 96))
    assert conditioner.pending == 240


def test_waiting_samples_count_towards_the_next_output() -> None:
    """The next block completes an output with pending samples."""
    data = good().read(96)
    conditioner = Conditioner()

    assert not conditioner.feed(of_claim(data[:50], 6.0))
    output = conditioner.feed(of_claim(data[50:], 6.0))
    assert (output.data, conditioner.pending) == (sha512(data).digest(), 0)


def test_discard_drops_what_waits() -> None:
    """Discarding returns the pending bits and drops their samples."""
    data = good().read(146)
    conditioner = Conditioner()
    conditioner.feed(of_claim(data[:50], 6.0))

    assert conditioner.discard() == 300
    assert conditioner.pending == 0
    output = conditioner.feed(of_claim(data[50:], 6.0))
    assert output.data == sha512(data[50:]).digest()


def test_samples_that_are_worth_nothing_make_nothing() -> None:
    """Blocks assessed at zero bits never give an output."""
    conditioner = Conditioner()

    assert not any(conditioner.feed(TestedBlock(b"x" * 10_000, Bits(0))) for _ in range(3))
    assert not conditioner.feed(TestedBlock(b"", Bits(0)))
    assert conditioner.pending == 0


@given(st.lists(st.integers(0, 700), max_size=30), st.sampled_from([8.0, 7.9, 6.0, 5.3, 2.0, 0.7]))
def test_account_never_gives_more_than_it_took(sizes: list[int], h: float) -> None:
    """For any chunks, outputs (576 bits each) plus pending never exceed input."""
    conditioner, assessed, outputs, source = Conditioner(), 0, 0, good()
    for size in sizes:
        block = of_claim(source.read(size), h)
        assessed += block.assessed
        outputs += len(conditioner.feed(block)) // 64
        assert 0 <= conditioner.pending < 576
        assert outputs * 576 + conditioner.pending <= assessed
        waste = outputs * (h + 1)  # an output takes whole samples: less than one extra
        assert assessed - outputs * 576 - conditioner.pending <= waste


@given(st.lists(st.integers(1, 400), min_size=1, max_size=20))
def test_outputs_do_not_depend_on_the_cut(sizes: list[int]) -> None:
    """The same samples give the same outputs, in one block or many."""
    data = good().read(sum(sizes))
    conditioner, outputs, at = Conditioner(), b"", 0
    for size in sizes:
        outputs += conditioner.feed(of_claim(data[at : at + size], 6.0)).data
        at += size

    assert outputs == Conditioner().feed(of_claim(data, 6.0)).data


def test_efficiency_reaches_its_limit() -> None:
    """At H = 6, 1 MiB gives 512 bits per 576 assessed, except pending ones."""
    block = of_claim(good().read(1 << 20), 6.0)
    conditioner = Conditioner()
    outputs = conditioner.feed(block)

    assert 576 * (len(outputs) // 64) + conditioner.pending == block.assessed
