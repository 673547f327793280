"""The library's interface, with and without optional dependencies."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

import drawwell.assess
from drawwell.assess import NonIidResult, Progress, assess
from drawwell.assess.ceiling import TABLE, ceiling_at
from drawwell.errors import BadData
from drawwell.reports import as_json


def uniform(bits: int, size: int = 20_000) -> bytes:
    return np.random.default_rng(5).integers(0, 1 << bits, size).astype(np.uint8).tobytes()


@pytest.fixture(scope="module")
def nibbles() -> NonIidResult:
    return assess(uniform(4))


def test_two_columns_of_ten_and_seven(nibbles):
    """The bit string has ten estimates, the literal column has seven."""
    assert [(each.name, len(each.estimates)) for each in nibbles.columns] == [
        ("bit string", 10),
        ("literal", 7),
    ]


def test_estimates_stand_in_the_order_of_the_standard(nibbles):
    """Sections ascend from 6.3.1 to 6.3.10."""
    sections = [int(each.section.rpartition(".")[2]) for each in nibbles.columns[0].estimates]
    assert sections == list(range(1, 11))


def test_two_symbols_have_one_column():
    """For bits both columns would be equal, so the ten estimators run once."""
    result = assess(uniform(1))
    assert result.bit_string is None
    assert result.h_bitstring is None
    assert len(result.literal.estimates) == 10
    assert result.min_entropy == result.h_original


def test_two_symbols_of_a_byte_keep_their_width():
    """Samples 0 and 128 are two symbols of eight bits, in a single column."""
    result = assess(np.frombuffer(uniform(1), dtype=np.uint8) << 7)
    assert (result.bits_per_sample, result.symbols, result.bit_string) == (8, 2, None)
    assert result.min_entropy <= 1.0


def test_result_is_the_lesser_of_the_columns(nibbles):
    """H_I = min(H_original, width x H_bitstring)."""
    assert nibbles.h_bitstring is not None
    assert nibbles.min_entropy == min(nibbles.h_original, 4 * nibbles.h_bitstring)


def test_column_has_its_weakest_estimate(nibbles):
    """The weakest estimate equals the column's min-entropy."""
    for column in nibbles.columns:
        assert column.weakest.min_entropy == column.min_entropy


def test_declared_width_changes_the_bit_string():
    """A wider declaration adds zeros to the bit string, and a note."""
    result = assess(uniform(2), 4)
    assert result.bit_string is not None
    assert result.bit_string.samples == 80_000
    assert any("fewer than the declared 4" in note for note in result.notes)


def test_result_goes_into_json(nibbles):
    """A result converts to JSON like every report."""
    document = as_json(nibbles)
    assert document["literal"]["estimates"][0]["name"] == "most-common-value"


def test_threads_change_nothing(nibbles):
    """One thread and four return the same."""
    for threads in (1, 4):
        other = assess(uniform(4), threads=threads)
        assert [each.min_entropy for each in other.literal.estimates] == [
            each.min_entropy for each in nibbles.literal.estimates
        ]


def test_progress_names_what_runs():
    """The callback runs in the caller's thread and reaches 100 %."""
    news: list[Progress] = []
    assess(uniform(1), progress=news.append)
    assert news[-1].done == 1.0


def test_stuck_source_is_bad_data_by_name():
    """Errors use the caller's name for the data."""
    with pytest.raises(BadData, match=r"noise\.bin: all samples are 9"):
        assess(bytes([9]) * 5000, name="noise.bin")


def test_ideal_source_reaches_its_ceiling(nibbles):
    """Uniform samples score close to the table's value."""
    assert nibbles.ceiling is not None
    assert nibbles.ceiling.low - 0.3 < nibbles.min_entropy < nibbles.ceiling.high + 0.3


@pytest.mark.parametrize("bits", range(1, 9))
def test_ceiling_lies_between_its_neighbours(bits):
    """Interpolated values are between their neighbours; the ends are clamped."""
    for (short, *under), (long, *over) in zip(TABLE[bits], TABLE[bits][1:], strict=False):
        between = ceiling_at((short + long) // 2, bits)
        assert between is not None
        assert min(under[0], over[0]) <= between.min_entropy <= max(under[0], over[0])
    first, last = TABLE[bits][0], TABLE[bits][-1]
    for samples, row in ((4096, first), (first[0], first), (last[0], last), (10**9, last)):
        found = ceiling_at(samples, bits)
        assert found is not None
        assert (found.min_entropy, found.low, found.high) == pytest.approx(row[1:])


@pytest.mark.parametrize("bits", range(1, 9))
def test_ceiling_is_below_the_width(bits):
    """No finite ideal sample reaches its width; rows are sorted."""
    assert all(0 < low <= median <= high < bits for _, median, low, high in TABLE[bits])


def test_door_opens_only_on_what_is_there():
    """All public names can be imported, and there are no others."""
    assert all(getattr(drawwell.assess, name) for name in drawwell.assess.__all__)
    with pytest.raises(AttributeError):
        drawwell.assess.nothing  # noqa: B018


def run_without(missing: str, script: str) -> list[str]:
    """Run a script without some modules; return the lines of its output."""
    block = f"import sys\nfor name in {missing.split()!r}: sys.modules[name] = None\n"
    done = subprocess.run([sys.executable, "-c", block + script], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.slow
def test_without_numba_and_library_the_values_are_the_same():
    """Interpreted loops and prefix doubling give equal values, and a note."""
    no_library = "import ctypes\ndef refuse(*_): raise OSError\nctypes.CDLL = refuse\n"
    script = (
        "from drawwell.assess import assess\n"
        "data = bytes((each * each // 7 + each // 50) % 5 for each in range(6000))\n"
        "result = assess(data)\n"
        "print(*('not installed' in note for note in result.notes))\n"
        "print([each.min_entropy for column in result.columns for each in column.estimates])\n"
    )
    slow = run_without("numba pydivsufsort", no_library + script)
    fast = run_without("", script)
    assert slow[0].count("True") == 2  # Numba and the library, one note each
    assert "True" not in fast[0] or not importlib.util.find_spec("numba")
    assert slow[1] == fast[1]


def test_without_numpy_the_error_names_what_to_install():
    """An assessment without NumPy fails with an installation hint."""
    lines = run_without(
        "numpy",
        "from drawwell.errors import MissingExtra\n"
        "import drawwell.assess\n"
        "try: drawwell.assess.assess(b'')\n"
        "except MissingExtra as error: print(error.exit_code, error.hint)\n",
    )
    assert lines[0].startswith("69 Install it with `pip install drawwell[assess]`")
