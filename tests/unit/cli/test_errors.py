"""System errors for files, converted to errors with a hint."""

import errno
from pathlib import Path

from drawwell.cli.errors import of_file


def test_a_missing_file_and_a_missing_directory_have_their_own_hints(tmp_path: Path) -> None:
    """The hint depends on whether the file or its directory is missing."""
    read = of_file(FileNotFoundError(errno.ENOENT, "No such file", str(tmp_path / "key.pub")))
    written = of_file(FileNotFoundError(errno.ENOENT, "No such file", str(tmp_path / "no" / "x")))
    assert "existing file" in str(read.hint)
    assert "existing directory" in str(written.hint)
