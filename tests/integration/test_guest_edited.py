"""Files that root edits in folders which are other users'."""

import os
import pwd
from pathlib import Path

import pytest

from drawwell.errors import PermissionRefused
from drawwell.guests.edit import files

NOBODY = 65534


@pytest.fixture
def his(folder: Path) -> Path:
    """A folder of another user, whom everybody may visit."""
    if os.geteuid() != 0:
        pytest.skip("acting as another user needs root")
    try:
        pwd.getpwuid(NOBODY)
    except KeyError:
        pytest.skip("there is no user nobody")
    folder.chmod(0o755)
    place = folder / "his"
    place.mkdir()
    os.chown(place, NOBODY, NOBODY)
    return place


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_link_in_a_users_folder_leads_root_to_nothing_of_roots(folder: Path, his: Path, mode: int) -> None:
    """What he may not write stays as it is, what he may not read is copied nowhere; root is root again."""
    secret = folder / "shadow"
    secret.write_text("root's\n")
    secret.chmod(mode)
    (his / "config").symlink_to(secret)
    with pytest.raises(PermissionRefused):
        files.whole(str(his / "config"), "ours\n")
    with pytest.raises(PermissionRefused):
        files.edit(str(his / "config"), "root's\n", "root's\nours\n")
    assert secret.read_text() == "root's\n"
    assert [path.name for path in folder.iterdir() if path.is_file()] == ["shadow"]
    assert (os.geteuid(), os.getegid()) == (0, 0)


def test_a_folder_that_he_laid_a_link_to_is_his(folder: Path, his: Path) -> None:
    """Who may choose the folder may not choose one of root's: nothing is made or deleted there."""
    roots = folder / "etc"
    roots.mkdir(mode=0o755)
    (roots / "kept").touch()
    (his / "project").symlink_to(roots)
    os.chown(his / "project", NOBODY, NOBODY, follow_symlinks=False)
    with pytest.raises(PermissionRefused):
        files.whole(str(his / "project/new"), "ours\n")
    with pytest.raises(PermissionRefused):
        files.delete(str(his / "project/kept"))
    assert [path.name for path in roots.iterdir()] == ["kept"]


def test_what_is_made_in_a_users_folder_is_his(his: Path) -> None:
    """He can edit and delete it."""
    files.whole(str(his / "deeper/drawwell-web.yaml"), "services:\n", mode=0o640)
    made = (his / "deeper/drawwell-web.yaml").stat()
    assert (made.st_uid, made.st_mode & 0o777) == (NOBODY, 0o640)
    assert files.delete(str(his / "deeper/drawwell-web.yaml"))
