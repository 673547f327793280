"""Root joins for the service's user: what he leaves belongs to whom the state belongs."""

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
    """Directory, key and certificate are the service's, which must read the one and renew the other."""
    os.chown(folder, SERVICE, SERVICE)
    staging = Staging(str(folder / LINKS / "well"), force=False)
    identity = staging.finish(REPLY)
    made = [folder / LINKS, Path(identity.directory), *Path(identity.directory).iterdir()]
    assert len(made) == 7
    assert {(path.stat().st_uid, path.stat().st_gid) for path in made} == {(SERVICE, SERVICE)}
    assert Path(identity.key_path).stat().st_mode & 0o777 == 0o600


def test_elsewhere_nothing_changes_hands(folder: Path) -> None:
    """In a directory of our own everything is ours."""
    identity = Staging(str(folder / LINKS / "well"), force=False).finish(REPLY)
    assert {path.stat().st_uid for path in Path(identity.directory).iterdir()} == {os.geteuid()}


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
def test_who_is_not_root_keeps_what_is_his(folder: Path) -> None:
    """In a directory of root's where everybody may make files, such as /tmp, a user's directory is his own."""
    folder.chmod(0o1777)
    os.seteuid(SERVICE)
    try:
        make_private_directory(str(folder / "state"))
    finally:
        os.seteuid(0)
    assert (folder / "state").stat().st_uid == SERVICE
