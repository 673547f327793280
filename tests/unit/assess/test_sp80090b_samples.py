"""Validation of samples, and their conversion to two columns."""

import numpy as np
import pytest

from drawwell.assess.samples import MIN_SAMPLES, parse
from drawwell.errors import BadData

ENOUGH = bytes(range(4)) * MIN_SAMPLES


def test_empty_data_are_refused():
    """Empty input has a separate error."""
    with pytest.raises(BadData, match="the data: empty"):
        parse(b"")


def test_few_samples_are_refused():
    """Too few samples for the largest window are refused with their number."""
    with pytest.raises(BadData, match=r"noise\.bin: 4,095 samples are too few"):
        parse(ENOUGH[: MIN_SAMPLES - 1], name="noise.bin")


def test_just_enough_samples_are_taken():
    """4,096 samples can be assessed."""
    assert parse(ENOUGH[:MIN_SAMPLES]).raw.size == MIN_SAMPLES


@pytest.mark.parametrize("symbol", [0, 7, 255])
def test_one_symbol_is_refused(symbol):
    """A stuck source is reported with its symbol."""
    with pytest.raises(BadData, match=f"all samples are {symbol}, which contain no entropy"):
        parse(bytes([symbol]) * MIN_SAMPLES)


def test_samples_wider_than_declared_are_refused():
    """A sample above the declared width is an error; it is not truncated."""
    with pytest.raises(BadData, match="use 2 bits, wider than the declared 1"):
        parse(ENOUGH, 1)


@pytest.mark.parametrize("width", [0, 9, -1])
def test_impossible_width_is_refused(width):
    """A width is 1 to 8 bits."""
    with pytest.raises(BadData, match="bits per sample is out of range"):
        parse(ENOUGH, width)


def test_array_of_other_shape_is_refused():
    """A matrix is not accepted as one row of samples."""
    with pytest.raises(BadData, match="2 dimensions"):
        parse(np.zeros((64, 64), dtype=np.uint8))


def test_array_of_fractions_is_refused():
    """Floating-point samples are refused, including NaN."""
    with pytest.raises(BadData, match="float64"):
        parse(np.full(MIN_SAMPLES, np.nan))


def test_array_of_wider_samples_is_refused():
    """Samples above 255 are refused, not wrapped."""
    with pytest.raises(BadData, match="wider than 8 bits"):
        parse(np.full(MIN_SAMPLES, 256, dtype=np.uint16))


def test_bad_data_have_their_own_exit_code():
    """Data that cannot be assessed give exit code 65, as in sysexits(3)."""
    assert BadData.exit_code == 65


@pytest.mark.parametrize(("top", "width"), [(1, 1), (2, 2), (7, 3), (8, 4), (255, 8)])
def test_width_is_the_highest_bit_in_use(top, width):
    """Without a declaration the widest sample decides."""
    assert parse(bytes([0, top]) * MIN_SAMPLES).bits_per_sample == width


def test_declared_width_wins_and_narrowness_is_noted():
    """A declared width is used, with a note if the samples use less."""
    taken = parse(ENOUGH, 8)
    assert taken.bits_per_sample == 8
    assert any("fewer than the declared 8" in note for note in taken.notes)


def test_gaps_in_the_alphabet_are_closed():
    """The literal column numbers the distinct symbols in ascending order."""
    taken = parse(bytes([3, 200, 17, 40]) * MIN_SAMPLES)
    assert (taken.symbols, taken.literal[:4].tolist()) == (4, [0, 3, 1, 2])


def test_alphabet_without_gaps_is_left_alone():
    """Samples 0 to k - 1 keep their numbers, even if k is not a power of two."""
    taken = parse(bytes([0, 1, 2]) * MIN_SAMPLES)
    assert taken.literal[:3].tolist() == [0, 1, 2]
    assert not any("renumbers" in note for note in taken.notes)


def test_bit_string_is_of_raw_samples_top_bit_first():
    """The bit string contains the raw samples, most significant bit first."""
    taken = parse(bytes([5, 2]) * MIN_SAMPLES, 4)
    assert taken.bit_string[:8].tolist() == [0, 1, 0, 1, 0, 0, 1, 0]


def test_short_data_are_noted():
    """Fewer than a million samples are assessed with a note."""
    assert any("SP 800-90B requires 1,000,000" in note for note in parse(ENOUGH).notes)


def test_later_changes_do_not_reach_the_samples():
    """The samples are a copy of the argument."""
    data = np.frombuffer(ENOUGH, dtype=np.uint8).copy()
    taken = parse(data)
    data[:] = 0
    assert taken.raw[:4].tolist() == [0, 1, 2, 3]
