"""The Python interface with a running broker, and docs/python.md."""

import asyncio
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import drawwell
from drawwell.errors import DrawRefused, LinkUnavailable, QuotaExceeded, UsageError
from drawwell.testing.waiting import DEADLINE_S, wait_until
from support.daemon import Daemon, StickThread, command
from support.station import Site

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
POOR = '[[consumer]]\nname = "local"\nclass = "full"\nquota = "64KiB/day"\n'


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Return a broker with a local consumer of class full, up to 64 KiB."""
    with tempfile.TemporaryDirectory(prefix="dw-") as name:
        site = Site(Path(name), more=POOR)
        stick = StickThread(site.folder / "stick", seed=1, rate=0)
        with stick, Daemon("run", config=site.path, log=site.folder / "log"):
            ready = lambda: command("status", "--require", "ready", config=site.path).returncode == 0  # noqa: E731
            wait_until(ready, "it is ready")
            yield site


@pytest.fixture(autouse=True)
def _configured(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAWWELL_CONFIG", str(site.path))


def test_bytes_are_drawn_once() -> None:
    """Two draws have the requested sizes, and nothing in common."""
    assert len(drawwell.draw(64)) == 64
    assert drawwell.draw(16) != drawwell.draw(16)


def test_a_receipt_is_written_and_verified(tmp_path: Path, site: Site) -> None:
    """Receipt and key are new files of mode 0600 that cover the bytes."""
    place = tmp_path / "key.receipt"
    (tmp_path / "key.bin").write_bytes(drawwell.draw(32, receipt=place))
    assert {path.stat().st_mode & 0o777 for path in (place, tmp_path / "key.receipt.key")} == {0o600}
    shown = command("receipt", "verify", str(place), "--data", str(tmp_path / "key.bin"), config=site.path)
    assert shown.returncode == 0, shown.stderr
    with pytest.raises(FileExistsError):
        drawwell.draw(32, receipt=place)


def test_what_fails_leaves_no_receipt(tmp_path: Path) -> None:
    """A refused draw raises the documented error and creates no file."""
    with pytest.raises(DrawRefused):
        drawwell.draw(32, draw_class="drbg", receipt=tmp_path / "no.receipt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"n_bytes": 0}, UsageError),
        ({"n_bytes": 32, "draw_class": "pool"}, UsageError),
        ({"n_bytes": 70_000, "receipt": "x"}, UsageError),
        ({"n_bytes": 32, "via": "nowhere"}, UsageError),
        ({"n_bytes": 32, "via": "unix:///nowhere"}, LinkUnavailable),
        ({"n_bytes": 2**16}, QuotaExceeded),
    ],
)
def test_errors_are_the_documented_ones(arguments, error, tmp_path, monkeypatch) -> None:
    """An impossible draw raises the error on the page."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error):
        drawwell.draw(**arguments)


def test_random_is_a_random() -> None:
    """Choices, shuffles and numbers are in the ranges of random.Random."""
    source = drawwell.Random()
    deck = list(range(52))
    source.shuffle(deck)
    assert sorted(deck) == list(range(52))
    assert source.choice("abc") in "abc"
    assert 1 <= source.randint(1, 6) <= 6
    assert 0 <= source.random() < 1
    assert len(set(source.sample(range(100), 10))) == 10
    assert source.getrandbits(0) == 0
    assert source.getrandbits(5) < 32
    assert isinstance(source.gauss(), float)


def test_awaited_it_is_the_same() -> None:
    """aio has the same functions as coroutines; draw does not block the loop."""

    async def use() -> None:
        source = drawwell.aio.Random()
        assert len(await drawwell.aio.draw(8)) == 8
        deck = list(range(10))
        await source.shuffle(deck)
        assert sorted(deck) == list(range(10))
        assert await source.choice("abc") in "abc"
        assert await source.randint(7, 7) == 7
        assert len(set(await source.sample(range(20), 5))) == 5
        assert 0 <= await source.random() < 1
        with pytest.raises(UsageError, match="event loop"):
            drawwell.draw(1, via="ssh://nobody@127.0.0.1")

    asyncio.run(use())


def test_one_event_loop_in_a_thread_is_no_hindrance() -> None:
    """The blocking call works in a thread next to an event loop."""

    async def use() -> bytes:
        return await asyncio.to_thread(drawwell.draw, 8)

    assert len(asyncio.run(use())) == 8


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_the_page_can_be_followed(block: str, tmp_path: Path, site: Site) -> None:
    """Each example on the page runs unchanged, and its receipt verifies."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", block],
        cwd=tmp_path, env=os.environ | {"DRAWWELL_CONFIG": str(site.path)}, capture_output=True, text=True,
        timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    if (tmp_path / "lottery.receipt").exists():
        line = re.search(r"^    drawwell (receipt verify .*)$", PAGE.read_text(), re.MULTILINE)
        assert line is not None
        typed = [str(tmp_path / each) if "lottery" in each else each for each in line[1].split()]
        assert command(*typed, config=site.path).returncode == 0
