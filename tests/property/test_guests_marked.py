"""Our block in a foreign file: removing it leaves no trace."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from drawwell.errors import ConfigError
from drawwell.guests.edit.block import Block, has_block, with_block, without_block

LINES = st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=12) | st.sampled_from([
    "", "lxc.uts.name = web1", "# drawwell", "\r", "  ", "# drawwell: guest web2 begins", "# drawwell: guest web2 ends",
])  # fmt: skip
FILES = st.lists(LINES, max_size=8).map("\n".join) | st.lists(LINES, max_size=8).map(
    lambda each: "\n".join([*each, ""])
)
BLOCK = Block("lxc", "web1", ("lxc.autodev = 1", "lxc.hook.autodev = /x"))
OTHER = Block("lxc", "web1", ("lxc.autodev = 0",))


@given(FILES)
@example("")
@example("\n")
@example("no line end")
def test_put_in_and_taken_out_is_the_file(config: str) -> None:
    """The file is restored byte for byte, with and without a final newline."""
    assert without_block(with_block(config, BLOCK), "web1") == config
    assert has_block(with_block(config, BLOCK), "web1")


@given(FILES)
def test_the_second_time_changes_nothing_and_another_block_takes_its_place(config: str) -> None:
    """A guest has at most one block, and its position does not change."""
    once = with_block(config, BLOCK)
    assert with_block(once, BLOCK) == once
    assert with_block(with_block(once, OTHER), BLOCK) == once


@given(FILES, FILES, FILES)
def test_edits_round_the_block_survive_its_removal(config: str, before: str, after: str) -> None:
    """Lines added above and below the block stay when it is removed."""
    edited = f"{before}\n{with_block(config, BLOCK)}{after}"
    left = without_block(edited, "web1")
    expected = f"{before}\n{config}"
    assert left in {expected + after, f"{expected}\n{after}"}
    assert not has_block(left, "web1")


@given(FILES)
def test_two_guests_in_one_file_do_not_meet(config: str) -> None:
    """Removing one guest's block keeps that of another with a similar name."""
    config += "\n"
    other = Block("lxc", "web1.b", ("lxc.autodev = 0",))
    both = with_block(with_block(config, BLOCK), other)
    assert without_block(without_block(both, "web1"), "web1.b") == config


@given(FILES, st.booleans())
def test_half_a_block_is_refused(config: str, first: bool) -> None:
    """A block without one of its marks is reported, and the file unchanged."""
    lines = with_block(config, BLOCK).split("\n")
    gone = next(
        at
        for at, line in enumerate(lines)
        if line.startswith(f"# drawwell: guest web1 {'begins' if first else 'ends'}")
    )
    half = "\n".join(lines[:gone] + lines[gone + 1 :])
    for act in (lambda: with_block(half, BLOCK), lambda: without_block(half, "web1")):
        with pytest.raises(ConfigError, match="is damaged"):
            act()
