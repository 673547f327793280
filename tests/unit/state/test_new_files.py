"""Files that are written completely or not at all."""

import os
from pathlib import Path

import pytest

from drawwell.state.new_files import NewFiles


def test_kept_files_are_whole_and_private(tmp_path: Path) -> None:
    """Each file has its pieces in order, and mode 0600."""
    one, other = tmp_path / "one", tmp_path / "other"
    with NewFiles(str(one), str(other)) as files:
        files.write(b"a", b"x")
        files.write(b"b", b"y")
        files.keep()
    assert (one.read_bytes(), other.read_bytes()) == (b"ab", b"xy")
    assert {path.stat().st_mode & 0o777 for path in (one, other)} == {0o600}


def test_nothing_stays_that_was_not_kept(tmp_path: Path) -> None:
    """A file that is written but not kept is removed."""
    with NewFiles(str(tmp_path / "one")) as files:
        files.write(b"a")
    assert os.listdir(tmp_path) == []


def test_none_is_made_where_one_exists(tmp_path: Path) -> None:
    """The existing file is unchanged, and earlier new files are removed."""
    (tmp_path / "two").write_bytes(b"mine")
    with pytest.raises(FileExistsError), NewFiles(str(tmp_path / "one"), str(tmp_path / "two")):
        pass
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"two": b"mine"}
