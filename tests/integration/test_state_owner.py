"""Root joins for the service's user, who then owns the files."""

import os
from pathlib import Path

import pytest

from drawwell.links.identity import LINKS, Staging
from drawwell.state.files import make_private_directory
from drawwell.wire.enrolment import JoinReply

SERVICE = 65534
REPLY = JoinReply("web01", "certificate", "ca", "well", ("well:55000",), "", "", "full", "receipts")


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who joins for another user")
def test_what_root_joins_belongs_to_the_states_owner(folder: Path) -> None:
    """Directory, key and certificate belong to the service."""
    os.chown(folder, SERVICE, SERVICE)
    staging = Staging(str(folder / LINKS / "well"), force=False)
    identity = staging.finish(REPLY)
    made = [folder / LINKS, Path(identity.directory), *Path(identity.directory).iterdir()]
    assert len(made) == 7
    assert {(path.stat().st_uid, path.stat().st_gid) for path in made} == {(SERVICE, SERVICE)}
    assert Path(identity.key_path).stat().st_mode & 0o777 == 0o600


def test_elsewhere_nothing_changes_hands(folder: Path) -> None:
    """In our own directory all files are ours."""
    identity = Staging(str(folder / LINKS / "well"), force=False).finish(REPLY)
    assert {path.stat().st_uid for path in Path(identity.directory).iterdir()} == {os.geteuid()}


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to act as another user")
def test_a_user_other_than_root_keeps_their_files(folder: Path) -> None:
    """In a shared directory of root, such as /tmp, users keep their files."""
    folder.chmod(0o1777)
    os.seteuid(SERVICE)
    try:
        make_private_directory(str(folder / "state"))
    finally:
        os.seteuid(0)
    assert (folder / "state").stat().st_uid == SERVICE
