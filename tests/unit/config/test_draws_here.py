"""The broker of a draw depends only on the configuration."""

from pathlib import Path

import pytest

from drawwell.config.load import load

SOURCE = '[[source]]\ndriver = "onerng"\n'
UPSTREAM = '[[upstream]]\nurl = "unix:///run/far.sock"\n'
DEPOSITS = "[broker]\ndeposits = true\n"


@pytest.mark.parametrize(
    ("text", "here", "elsewhere"),
    [
        ("", False, False),
        (SOURCE, True, False),
        (DEPOSITS, True, False),
        (UPSTREAM, False, True),
        (SOURCE + UPSTREAM, True, False),
        (UPSTREAM + DEPOSITS, True, False),
    ],
)
def test_what_is_written_decides(tmp_path: Path, text: str, here: bool, elsewhere: bool) -> None:
    """A source or deposits keep draws local; an upstream alone does not."""
    path = tmp_path / "drawwell.toml"
    path.write_text(text)
    config = load(str(path))
    assert (config.draws_here, config.draws_elsewhere) == (here, elsewhere)
