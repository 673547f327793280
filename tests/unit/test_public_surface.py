"""The public names of the package, and the cost of importing it."""

import inspect
import subprocess
import sys

import pytest

import drawwell
from drawwell import aio, sync

DRAW = (
    "(n_bytes: int, *, draw_class: Literal['full', 'drbg'] = 'full', receipt: str | os.PathLike[str] | None = None, "
    "via: str | None = None, wait_s: float = 0.0) -> bytes"
)
RANDOM = (
    "(*, draw_class: Literal['full', 'drbg'] = 'full', via: str | None = None, wait_s: float = 0.0) -> None"
)
AWAITED = {"choice", "getrandbits", "randbytes", "randint", "random", "sample", "shuffle"}


def signature(thing):
    return str(inspect.signature(thing)).replace("typing.", "")


def test_the_package_has_these_names():
    """Only draw, Random, aio, errors and the version are public."""
    assert sorted(drawwell.__all__) == ["Random", "__version__", "aio", "draw", "errors"]
    assert set(drawwell.__all__) <= set(dir(drawwell))
    assert sorted(aio.__all__) == sorted(sync.__all__) == ["Random", "draw"]


@pytest.mark.parametrize("draw", [drawwell.draw, aio.draw])
def test_both_draws_take_the_same(draw):
    """The blocking and the asyncio draw have the same signature."""
    assert signature(draw) == DRAW


def test_both_randoms_take_the_same():
    """Both classes have the same constructor and method names."""
    assert signature(drawwell.Random) == signature(aio.Random) == RANDOM
    public = {name for name in vars(aio.Random) if not name.startswith("_")}
    assert public == AWAITED
    assert all(hasattr(drawwell.Random, name) for name in AWAITED)


def test_an_unknown_name_is_an_attribute_error():
    """An unknown name raises AttributeError, as in any module."""
    with pytest.raises(AttributeError, match="no attribute 'cipher'"):
        _ = drawwell.cipher


def test_the_package_alone_imports_nothing_heavy():
    """`import drawwell` loads neither asyncio nor other drawwell modules."""
    script = (
        "import sys, drawwell\n"
        "ours = {n for n in sys.modules if n.startswith('drawwell.')}\n"
        "print(*sorted(ours | {'asyncio', 'cryptography', 'argparse'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_random_without_state():
    """Random accepts no seed and has no state to copy."""
    source = drawwell.Random()
    for call in (lambda: source.seed(1), source.getstate, lambda: source.setstate(())):
        with pytest.raises(NotImplementedError):
            call()
