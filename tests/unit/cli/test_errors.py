"""What the system returns for a file, as an error with a hint."""

import errno
from pathlib import Path

from drawwell.cli.errors import of_file


def test_a_missing_file_and_a_missing_directory_have_their_own_hints(tmp_path: Path) -> None:
    """With its directory there a file to read is missing, else the directory."""
    read = of_file(FileNotFoundError(errno.ENOENT, "No such file", str(tmp_path / "key.pub")))
    written = of_file(FileNotFoundError(errno.ENOENT, "No such file", str(tmp_path / "no" / "x")))
    assert "to be read" in str(read.hint)
    assert "directory that exists" in str(written.hint)
