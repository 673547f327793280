"""Files that root edits in other users' folders."""

import os
import pwd
from pathlib import Path

import pytest

from drawwell.errors import PermissionRefused
from drawwell.guests.edit import files
from drawwell.guests.edit.block import Block

OTHER_USER = 65534


@pytest.fixture
def theirs(folder: Path) -> Path:
    """Create another user's folder that all users can enter."""
    if os.geteuid() != 0:
        pytest.skip("acting as another user needs root")
    try:
        pwd.getpwuid(OTHER_USER)
    except KeyError:
        pytest.skip("there is no user with ID 65534")
    folder.chmod(0o755)
    place = folder / "theirs"
    place.mkdir()
    os.chown(place, OTHER_USER, OTHER_USER)
    return place


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_link_in_a_users_folder_leads_root_to_nothing_of_roots(
    folder: Path, theirs: Path, mode: int
) -> None:
    """Root reads and writes there with only that user's rights."""
    secret = folder / "shadow"
    secret.write_text("root's\n")
    secret.chmod(mode)
    (theirs / "config").symlink_to(secret)
    with pytest.raises(PermissionRefused):
        files.whole(str(theirs / "config"), "ours\n")
    with pytest.raises(PermissionRefused):
        files.put_block(str(theirs / "config"), "root's\n", Block("lxc", "web1", ("ours",)))
    assert secret.read_text() == "root's\n"
    assert [path.name for path in folder.iterdir() if path.is_file()] == ["shadow"]
    assert (os.geteuid(), os.getegid()) == (0, 0)


def test_a_folder_behind_a_users_link_is_the_users(folder: Path, theirs: Path) -> None:
    """A user's link in the path does not lead root to its own folder."""
    roots = folder / "etc"
    roots.mkdir(mode=0o755)
    (roots / "kept").touch()
    (theirs / "project").symlink_to(roots)
    os.chown(theirs / "project", OTHER_USER, OTHER_USER, follow_symlinks=False)
    with pytest.raises(PermissionRefused):
        files.whole(str(theirs / "project/new"), "ours\n")
    with pytest.raises(PermissionRefused):
        files.delete(str(theirs / "project/kept"))
    assert [path.name for path in roots.iterdir()] == ["kept"]


def test_what_is_made_in_a_users_folder_is_the_users(theirs: Path) -> None:
    """The user can edit and delete the new file."""
    files.whole(str(theirs / "deeper/drawwell-web.yaml"), "services:\n", mode=0o640)
    made = (theirs / "deeper/drawwell-web.yaml").stat()
    assert (made.st_uid, made.st_mode & 0o777) == (OTHER_USER, 0o640)
    assert files.delete(str(theirs / "deeper/drawwell-web.yaml"))
