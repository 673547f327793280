"""Names of processes that hold a node, as shown to users."""

from pathlib import Path

from drawwell.host.holders import holders


def test_a_process_that_calls_itself_something_moves_no_terminal(tmp_path: Path) -> None:
    """A program's name, which a container can choose, has no control bytes."""
    held = tmp_path / "held"
    held.touch()
    (tmp_path / "proc/4242/fd").mkdir(parents=True)
    (tmp_path / "proc/4242/comm").write_text("\x1b]0;x\x07\n")
    (tmp_path / "proc/4242/fd/7").symlink_to(held)
    assert [each.name for each in holders(str(held), str(tmp_path / "proc"))] == ["?]0;x?"]
