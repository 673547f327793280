"""Guests' sockets: whom they let in, what is sent ahead, and what becomes of them."""

import contextlib
import os
import shutil
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from drawwell.doors.qemu_egd.connection import AHEAD_REQUESTS
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import LinkUnavailable, PermissionRefused
from drawwell.links import unix
from integration.guest_site import VM, Qemu, broker, guest, in_a_loop, there, until_guest


@contextlib.contextmanager
def being(uid: int, gid: int) -> Iterator[None]:
    """Connect as somebody else: what counts is who one is at that moment."""
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.mark.parametrize(
    ("uid", "gid", "let_in"), [(12345, 1, True), (1, 54321, True), (0, 0, True), (1, 1, False)]
)
@pytest.mark.parametrize("via", ["virtio", "usb-virtual"])
@in_a_loop
async def test_a_socket_is_for_whom_it_should(
    folder: Path, via: str, uid: int, gid: int, let_in: bool
) -> None:
    """Root, the guest's user and its group are let in, and nobody else; the directory can only be passed."""
    if os.geteuid():
        pytest.skip("only root is somebody else")
    async with broker(folder) as site:
        path = (await site.ask("guest.add", {**VM, "via": via, "uid": 12345, "gid": 54321}))["socket"]
        for passed in (folder, folder / "run"):
            os.chmod(passed, 0o711)
        around = os.stat(os.path.dirname(path))
        assert (around.st_uid, stat.S_IMODE(around.st_mode)) == (0, 0o711)
        with being(uid, gid):
            client = Qemu(path)
        if via == "virtio":
            client.ask(8)  # the virtual OneRNG speaks first
        with contextlib.nullcontext() if let_in else pytest.raises((AssertionError, ConnectionError)):
            data = await client.more(8)
            assert data


@in_a_loop
async def test_who_was_turned_away_is_told_until_somebody_comes_in(folder: Path) -> None:
    """The list and the status name the user who was turned away, and no longer once the right one is there."""
    if os.geteuid():
        pytest.skip("only root is somebody else")
    async with broker(folder) as site:
        path = (await site.ask("guest.add", {**VM, "uid": 12345}))["socket"]
        for passed in (folder, folder / "run"):
            os.chmod(passed, 0o711)
        with being(23456, 1):
            Qemu(path)
        await until_guest(site, "vm1", turned_away_uid=23456)
        assert "guest vm1 turned user 23456 away" in str(await site.ask("status"))

        with being(12345, 1):
            Qemu(path)
        await until_guest(site, "vm1", turned_away_uid=None, connected=1)
        assert "turned user" not in str(await site.ask("status"))


@in_a_loop
async def test_who_was_turned_away_is_told_the_setting(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link of another user fails with the option that lets it in."""
    if os.geteuid():
        pytest.skip("only root is somebody else")
    async with broker(folder) as site:
        box = {"name": "box1", "kind": "lxc", "via": "socket", "uid": 12345}
        path = (await site.ask("guest.add", box))["socket"]
        for passed in (folder, folder / "run"):
            os.chmod(passed, 0o711)

        async def connect_as_another(path: str) -> socket.socket:
            with being(23456, 1):
                sock = socket.socket(socket.AF_UNIX)
                sock.connect(path)
            sock.setblocking(False)
            return sock

        link = unix.UnixLink(path)
        with monkeypatch.context() as patch:
            patch.setattr(unix, "connect_unix", connect_as_another)
            with pytest.raises(LinkUnavailable, match="closed the connection before") as refused:
                await link.draw(8, DrawClass.FULL)
        await link.aclose()
        assert "'drawwell guest apply KIND NAME --user NUMBER'" in str(refused.value.hint)
        await until_guest(site, "box1", turned_away_uid=23456)


@pytest.mark.parametrize("laid", ["link", "file", "foreign"])
@in_a_loop
async def test_what_others_laid_there_is_not_used(folder: Path, laid: str) -> None:
    """A link, a file or a directory of somebody else in a guest's place is refused and left as it is."""
    async with broker(folder) as site:
        place, elsewhere = folder / "run/guests/vm1", folder / "elsewhere"
        place.parent.mkdir()
        elsewhere.mkdir()
        if laid == "link":
            place.symlink_to(elsewhere)
        elif laid == "file":
            place.write_text("mine")
        else:
            place.mkdir()
            place.chmod(0o777)
        with pytest.raises(PermissionRefused, match="broker's own"):
            await site.ask("guest.add", VM)

        assert there(place)
        assert list(elsewhere.iterdir()) == []
        assert await site.ask("guest.list") == {"guests": []}


@in_a_loop
async def test_a_guest_without_a_door_ends_no_broker(folder: Path) -> None:
    """What is in the way at a start is said in the status; the other guests are served."""
    async with broker(folder) as site:
        await site.ask("guest.add", VM)
        await site.ask("guest.add", {**VM, "name": "vm2"})
    shutil.rmtree(folder / "run/guests/vm1")
    (folder / "run/guests/vm1").write_text("in the way")
    async with broker(folder) as site:
        await (Qemu((await guest(site, "vm2"))["socket"])).read()
        notes = (await site.ask("status"))["notes"]

        assert "broker's own" in (await guest(site, "vm1"))["fault"]
        assert any("guest vm1 has no door" in note for note in notes)


@in_a_loop
async def test_a_socket_that_was_removed_is_told_and_made_again(folder: Path) -> None:
    """A directory that was cleaned away is said in the list, and adding the guest again brings it back."""
    async with broker(folder) as site:
        socket = (await site.ask("guest.add", VM))["socket"]
        shutil.rmtree(folder / "run/guests")
        assert "was removed" in (await guest(site, "vm1"))["fault"]
        await site.ask("guest.add", VM)

        assert (await guest(site, "vm1"))["fault"] == ""
        assert len(await Qemu(socket).read()) == 64


@in_a_loop
async def test_only_what_a_socket_can_hold_is_sent_ahead(folder: Path) -> None:
    """A guest that reads on and on is sent some bytes ahead; all are charged, come in order, and are bounded."""
    async with broker(folder, ample=True) as site:
        qemu = Qemu((await site.ask("guest.add", VM))["socket"])
        got = [await qemu.read()]
        while qemu.lying_bytes <= 2 * 64:
            got.append(await qemu.read())
        found = await guest(site, "vm1")

        assert found["in_flight_bytes"] == qemu.lying_bytes <= (AHEAD_REQUESTS + 1) * 64
        assert found["full_bytes"] == found["consumed_bytes"] + found["in_flight_bytes"]
        got += [await qemu.answer() for _ in range(found["in_flight_bytes"] // 64)]
        assert len(set(got)) == len(got)
        assert (await guest(site, "vm1"))["consumed_bytes"] == 64 * len(got)


@in_a_loop
async def test_one_answer_lies_ahead_of_a_guest_with_a_rate(folder: Path) -> None:
    """However fast it asks, what it is charged is what it read and an answer or two."""
    async with broker(folder, ample=True) as site:
        qemu = Qemu((await site.ask("guest.add", {**VM, "rate": "1MiB/s"}))["socket"])
        for _ in range(60):
            await qemu.read()
        found = await until_guest(site, "vm1", owed_bytes=0)

        assert found["consumed_bytes"] == 60 * 64
        assert found["in_flight_bytes"] == found["full_bytes"] - 60 * 64 in {64, 128}


@in_a_loop
async def test_a_request_that_was_lost_is_answered(folder: Path) -> None:
    """A machine that connects is sent an answer unasked, and the next when it was read: it lost its requests before."""
    async with broker(folder) as site:
        qemu = Qemu((await site.ask("guest.add", VM))["socket"])
        lost = [await qemu.answer(), await qemu.answer(), await qemu.answer()]

        assert len(set(lost)) == 3
        assert (await until_guest(site, "vm1", in_flight_bytes=64))["consumed_bytes"] == 3 * 64


@in_a_loop
async def test_what_no_machine_says_ends_its_connection_and_no_other(folder: Path) -> None:
    """QEMU asks for bytes and waits; a level, a write or rubbish at that socket is a breach."""
    async with broker(folder) as site:
        path = (await site.ask("guest.add", VM))["socket"]
        good = Qemu(path)
        for words in (b"\x00", b"\x01\x40", b"\x03\x00\x08\x01a", b"\xff\xff"):
            bad = Qemu(path)
            bad.say(words)
            assert await bad.more() == b""

        assert len(await good.read()) == 64
