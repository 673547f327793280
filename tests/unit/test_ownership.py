"""Ownership checks, and the rights that root adopts."""

import os
from pathlib import Path

import pytest

from drawwell.errors import PermissionRefused
from drawwell.ownership import make_directory, require_ours, rights_of_owner

STRANGER = 4242
needs_root = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files to another user"),
]


def fault(path: Path, **options: bool) -> str:
    """Return the fault of a path, with the command to type."""
    with pytest.raises(PermissionRefused) as caught:
        require_ours(str(path), **options)
    return f"{caught.value}; {caught.value.hint}"


@pytest.fixture
def place(folder: Path) -> Path:
    """Return our own directory with one file."""
    (folder / "place").mkdir()
    (folder / "place" / "file").write_text("")
    return folder / "place"


def test_what_is_ours_all_the_way_passes(place: Path) -> None:
    """Our own files under the sticky /tmp pass, and so do unused names."""
    require_ours(str(place / "file"))
    require_ours(str(place / "new" / "file"))


@pytest.mark.parametrize(("mode", "who"), [(0o707, "o-w"), (0o777, "o-w")])
def test_a_directory_that_others_may_write_to_is_refused(place: Path, mode: int, who: str) -> None:
    """Another user could replace the file through that directory."""
    place.chmod(mode)
    assert f"chmod {who} {place}" in fault(place / "file")
    place.chmod(mode | 0o1000)
    require_ours(str(place / "file"))
    assert f"chmod {who} {place}" in fault(place, alone=True)


def test_a_file_that_others_may_write_is_refused(place: Path) -> None:
    """The sticky bit of a file has no meaning."""
    (place / "file").chmod(0o1646)
    assert f"chmod o-w {place}/file" in fault(place / "file")


def test_a_secret_may_be_read_by_its_group_alone(place: Path) -> None:
    """A mounted secret may be readable by its group."""
    (place / "file").chmod(0o640)
    require_ours(str(place / "file"), secret=True)
    (place / "file").chmod(0o644)
    require_ours(str(place / "file"))
    assert f"chmod o-r {place}/file" in fault(place / "file", secret=True)


class TestOfAnother:
    """Files that belong to another user."""

    pytestmark = needs_root

    def test_a_file_of_another_user_is_refused(self, place: Path) -> None:
        """The file's owner could change it, whatever the mode."""
        os.chown(place / "file", STRANGER, 0)
        assert f"user ID {STRANGER}" in fault(place / "file")
        assert f"chown root {place}/file" in fault(place / "file")

    def test_a_directory_on_the_way_is_refused(self, place: Path) -> None:
        """A directory's owner can replace root's files in it."""
        os.chown(place, STRANGER, 0)
        assert f"chown root {place}'" in fault(place / "file")
        assert f"chown root {place}'" in fault(place / "new")

    def test_a_link_of_another_user_is_refused(self, place: Path) -> None:
        """Another user's link is refused, whatever its target."""
        (place / "link").symlink_to("file")
        require_ours(str(place / "link"))
        os.chown(place / "link", STRANGER, 0, follow_symlinks=False)
        assert f"{place}/link belongs to" in fault(place / "link")

    def test_what_a_link_leads_through_is_judged(self, folder: Path, place: Path) -> None:
        """The directories of a link's target are checked as well."""
        (folder / "link").symlink_to(place)
        os.chown(place, STRANGER, 0)
        assert f"{place} belongs to" in fault(folder / "link" / "file")

    def test_a_secret_mounted_by_kubernetes_passes(self, place: Path) -> None:
        """A sticky, group-writable directory of root with links is safe."""
        place.chmod(0o3777)
        os.chown(place, 0, STRANGER)
        (place / "..data").symlink_to("..2026")
        (place / "..2026").mkdir(0o750)
        (place / "..2026" / "key").write_text("")
        (place / "..2026" / "key").chmod(0o440)
        os.chown(place / "..2026" / "key", 0, STRANGER)
        (place / "key").symlink_to("..data/key")
        require_ours(str(place / "key"), secret=True)

    def test_a_group_of_others_may_not_write(self, place: Path) -> None:
        """Root's own group may write; a group with other users may not."""
        place.chmod(0o770)
        require_ours(str(place))
        os.chown(place, 0, STRANGER)
        assert f"group {STRANGER} can write" in fault(place)
        assert f"chmod g-w {place}" in fault(place)

    def test_root_acts_as_the_first_other_user_on_the_way(self, place: Path) -> None:
        """Afterwards the process is root again, with its groups."""
        os.chown(place, STRANGER, STRANGER)
        before = (os.geteuid(), os.getegid(), os.getgroups())
        with rights_of_owner(str(place / "file")):
            assert (os.geteuid(), os.getegid(), os.getgroups()) == (STRANGER, STRANGER, [STRANGER])
        assert (os.geteuid(), os.getegid(), os.getgroups()) == before

    def test_root_does_not_work_where_every_user_may_write(self, place: Path) -> None:
        """No single user's rights would be correct there."""
        place.chmod(0o777)
        with pytest.raises(PermissionRefused), rights_of_owner(str(place / "file")):
            pass

    def test_a_directory_is_made_only_in_one_that_is_ours(self, place: Path) -> None:
        """drawwell creates no directory in another user's directory."""
        make_directory(str(place / "a" / "b"))
        os.chown(place, STRANGER, 0)
        with pytest.raises(PermissionRefused):
            make_directory(str(place / "c"))
        assert not (place / "c").exists()
