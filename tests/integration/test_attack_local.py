"""Attacks by another local user: planted sockets and directories."""

import asyncio
import os

import pytest

from drawwell.doors.unix import UnixDoor
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import PermissionRefused, StateUnavailable
from drawwell.links.identity import Staging
from drawwell.links.unix import UnixLink
from drawwell.roles.directories import make_run_dir
from drawwell.state.store import Store
from support.fake_broker import FakeBroker
from support.serving import serving

STRANGER = 65_534


def give_away(path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give `path` to another user, or simulate that without root."""
    if os.geteuid() == 0:
        os.chown(path, STRANGER, STRANGER)
    else:
        us = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: us + 1)


def test_a_socket_that_a_stranger_laid_under_tmp_is_not_drawn_from(folder, monkeypatch) -> None:
    """A directory that another user created in a shared place is ignored."""
    place = folder / "common" / "drawwell-1000"
    place.mkdir(parents=True)
    place.parent.chmod(0o1777)
    broker = FakeBroker()

    async def run() -> None:
        async with serving(UnixDoor(str(place / "draw.sock"), broker, lambda uid, gid, pid: "victim")):
            await (link := UnixLink(str(place / "draw.sock"))).draw(32, DrawClass.FULL)
            await link.aclose()
            give_away(place, monkeypatch)
            with pytest.raises(PermissionRefused, match="user ID"):
                await UnixLink(str(place / "draw.sock")).draw(32, DrawClass.FULL)

    asyncio.run(run())
    assert broker.drawn_bytes == {"victim": 32}


def test_a_broker_of_another_user_is_used_in_a_directory_that_only_they_can_write_to(
    folder, monkeypatch
) -> None:
    """A system broker runs as its own user in its own directory."""
    place = folder / "run" / "drawwell"
    place.mkdir(parents=True)
    place.parent.chmod(0o755)
    broker = FakeBroker()

    async def run() -> None:
        async with serving(UnixDoor(str(place / "draw.sock"), broker, lambda uid, gid, pid: "victim")):
            if os.geteuid() == 0:
                give_away(place, monkeypatch)
            await (link := UnixLink(str(place / "draw.sock"))).draw(32, DrawClass.FULL)
            await link.aclose()

    asyncio.run(run())
    assert broker.drawn_bytes == {"victim": 32}


def test_a_run_directory_that_others_may_write_to_is_refused(folder) -> None:
    """A user with write access could replace the broker's socket."""
    make_run_dir(str(folder / "run"))
    os.chmod(folder / "run", 0o777)
    with pytest.raises(PermissionRefused):
        make_run_dir(str(folder / "run"))
    os.chmod(folder / "run", 0o1777)
    make_run_dir(str(folder / "run"))


def test_a_run_directory_that_is_a_strangers_link_is_refused(folder, monkeypatch) -> None:
    """Another user's symbolic link is not followed, even to our directory."""
    (folder / "ours").mkdir()
    link = folder / "run"
    link.symlink_to(folder / "ours")
    if os.geteuid() == 0:
        os.chown(link, STRANGER, STRANGER, follow_symlinks=False)
    else:
        give_away(link, monkeypatch)
    with pytest.raises(PermissionRefused, match="belongs to user"):
        make_run_dir(str(link))


def test_a_state_directory_of_a_stranger_is_refused(folder, monkeypatch) -> None:
    """The directory's owner could plant a CA with a known key."""
    state = folder / "state"
    state.mkdir(mode=0o755)
    Store(str(state / "broker.db")).close()
    give_away(state, monkeypatch)
    with pytest.raises(PermissionRefused, match="belongs to user"):
        Store(str(state / "broker.db"))


def test_an_identity_is_never_made_in_a_directory_that_lay_there(folder, monkeypatch) -> None:
    """A planted directory with the identity's name is not used."""
    theirs = folder / "theirs"
    theirs.mkdir()
    (folder / ".well.new").symlink_to(theirs)
    with pytest.raises(StateUnavailable):
        Staging(str(folder / "well"), force=False)
    assert not list(theirs.iterdir())
