"""The parsers of bench/fuzz.py, on the kept corpus, without atheris."""

import random
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
from rig import fuzz_targets

NAMES = sorted(name.removeprefix("fuzz_") for name in vars(fuzz_targets) if name.startswith("fuzz_"))
ALL_S = 120.0  # short: the running time
LONGEST = 4096


@pytest.mark.parametrize("name", NAMES)
def test_what_is_kept_is_parsed_or_refused(name: str) -> None:
    """The inputs once reached a new part of a parser, or broke it."""
    run, seeds = getattr(fuzz_targets, f"fuzz_{name}")()
    for data in (*seeds, *fuzz_targets.kept(name)):
        run(data)


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_what_is_changed_is_parsed_or_refused(name: str) -> None:
    """All parsers together run two minutes; a failure shows seed and input."""
    run, seeds = getattr(fuzz_targets, f"fuzz_{name}")()
    inputs, seed = [*seeds, *fuzz_targets.kept(name)], random.SystemRandom().randrange(2**32)
    choose, end = random.Random(seed), time.monotonic() + ALL_S / len(NAMES)
    while time.monotonic() < end:
        data = changed(choose, inputs)
        try:
            run(data)
        except Exception as error:
            raise AssertionError(f"{name}, seed {seed}: {data.hex()}") from error


def changed(choose: random.Random, inputs: list[bytes]) -> bytes:
    """Return an input truncated, spliced with another, or partly replaced."""
    data = bytearray(choose.choice(inputs))
    for _ in range(choose.randint(1, 4)):
        at = choose.randint(0, len(data))
        match choose.randrange(4):
            case 0:
                data[at : at + choose.randint(0, 8)] = choose.randbytes(choose.randint(0, 8))
            case 1:
                data[at:] = choose.choice(inputs)[choose.randint(0, at) :]
            case 2:
                del data[at : at + choose.randint(1, 16)]
            case 3:
                data[at:at] = bytes([choose.choice((0, 1, 0x7F, 0x80, 0xFF))]) * choose.randint(1, 4)
    return bytes(data[:LONGEST])
