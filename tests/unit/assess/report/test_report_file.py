"""Writing the file of a report."""

from pathlib import Path

import pytest

from drawwell.cli.assess.input import CannotWrite, write_whole


def test_a_link_laid_in_the_way_is_not_followed(tmp_path: Path) -> None:
    """A symbolic link at the temporary file's path is not followed."""
    precious = tmp_path / "precious"
    precious.write_text("untouched")
    (tmp_path / "out.html.part").symlink_to(precious)

    with pytest.raises(CannotWrite):
        write_whole(str(tmp_path / "out.html"), "report")
    assert precious.read_text() == "untouched"


def test_an_older_report_is_replaced_whole(tmp_path: Path) -> None:
    """The new text replaces the old, and no temporary file remains."""
    report = tmp_path / "out.html"
    report.write_text("older and longer")
    write_whole(str(report), "newer")

    assert report.read_text() == "newer"
    assert [path.name for path in tmp_path.iterdir()] == ["out.html"]
