"""Guests' sockets: access, bytes sent ahead, and cleanup."""

import contextlib
import json
import os
import shutil
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drawwell.doors.qemu_egd.connection import AHEAD_REQUESTS
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import LinkUnavailable, PermissionRefused
from drawwell.links import unix
from integration.guest_site import VM, Qemu, broker, guest, in_a_loop, there, until_guest


@contextlib.contextmanager
def being(uid: int, gid: int) -> Iterator[None]:
    """Connect as another user; the kernel records the user."""
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


async def door_of_12345(site: Any, folder: Path) -> str:
    """Return the socket of a guest that only this user can reach."""
    if os.geteuid():
        pytest.skip("only root can act as another user")
    path: str = (await site.ask("guest.add", {**VM, "uid": 12345}))["socket"]
    for passed in (folder, folder / "run"):
        os.chmod(passed, 0o711)
    return path


@pytest.mark.parametrize(
    ("uid", "gid", "let_in"), [(12345, 1, True), (1, 54321, True), (0, 0, True), (1, 1, False)]
)
@pytest.mark.parametrize("via", ["virtio", "usb-virtual"])
@in_a_loop
async def test_a_socket_is_for_whom_it_should(
    folder: Path, via: str, uid: int, gid: int, let_in: bool
) -> None:
    """Only root, the guest's user and its group can connect."""
    if os.geteuid():
        pytest.skip("only root can act as another user")
    async with broker(folder) as site:
        path = (await site.ask("guest.add", {**VM, "via": via, "uid": 12345, "gid": 54321}))["socket"]
        for passed in (folder, folder / "run"):
            os.chmod(passed, 0o711)
        around = os.stat(os.path.dirname(path))
        assert (around.st_uid, stat.S_IMODE(around.st_mode)) == (0, 0o711)
        with being(uid, gid):
            client = Qemu(path)
        if via == "virtio":
            client.ask(8)  # the virtual OneRNG sends first
        with contextlib.nullcontext() if let_in else pytest.raises((AssertionError, ConnectionError)):
            data = await client.more(8)
            assert data


@in_a_loop
async def test_a_refused_user_is_listed_until_another_connects(folder: Path) -> None:
    """List and status name the refused user until the right one connects."""
    async with broker(folder) as site:
        path = await door_of_12345(site, folder)
        with being(23456, 1):
            Qemu(path)
        await until_guest(site, "vm1", turned_away_uid=23456)
        assert "guest vm1: user ID 23456 was rejected" in str(await site.ask("status"))

        with being(12345, 1):
            Qemu(path)
        await until_guest(site, "vm1", turned_away_uid=None, connected=1)
        assert "was rejected" not in str(await site.ask("status"))


@in_a_loop
async def test_refused_connections_are_counted(folder: Path) -> None:
    """The audit log has how many connections a guest's door rejected."""
    async with broker(folder) as site:
        path = await door_of_12345(site, folder)
        with being(23456, 1):
            refused = [Qemu(path), Qemu(path)]
        for each in refused:
            assert await each.more() == b""
    lines = [json.loads(line) for line in (folder / "state" / "audit.jsonl").read_text().splitlines()]
    (away,) = [line for line in lines if line["event"] == "turned away"]
    assert (away["door"], away["unauthenticated"]) == ("guest vm1", 2)


@in_a_loop
async def test_a_refused_user_gets_the_setting(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user's link fails, and the error has the option to admit it."""
    if os.geteuid():
        pytest.skip("only root can act as another user")
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
    """Another user's file at a guest's path is refused and not changed."""
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
        with pytest.raises(PermissionRefused, match="the broker alone"):
            await site.ask("guest.add", VM)

        assert there(place)
        assert list(elsewhere.iterdir()) == []
        assert await site.ask("guest.list") == {"guests": []}


@in_a_loop
async def test_a_guest_without_a_door_ends_no_broker(folder: Path) -> None:
    """Status reports the obstacle; other guests are served."""
    async with broker(folder) as site:
        await site.ask("guest.add", VM)
        await site.ask("guest.add", {**VM, "name": "vm2"})
    shutil.rmtree(folder / "run/guests/vm1")
    (folder / "run/guests/vm1").write_text("in the way")
    async with broker(folder) as site:
        await (Qemu((await guest(site, "vm2"))["socket"])).read()
        notes = (await site.ask("status"))["notes"]

        assert "the broker alone" in (await guest(site, "vm1"))["fault"]
        assert any("guest vm1 has no door" in note for note in notes)


@in_a_loop
async def test_a_socket_that_was_removed_is_reported_and_made_again(folder: Path) -> None:
    """The list reports the missing socket; adding the guest restores it."""
    async with broker(folder) as site:
        socket = (await site.ask("guest.add", VM))["socket"]
        shutil.rmtree(folder / "run/guests")
        assert "was removed" in (await guest(site, "vm1"))["fault"]
        await site.ask("guest.add", VM)

        assert (await guest(site, "vm1"))["fault"] == ""
        assert len(await Qemu(socket).read()) == 64


@in_a_loop
async def test_only_what_a_socket_can_hold_is_sent_ahead(folder: Path) -> None:
    """A reading guest gets limited bytes ahead, in order and charged."""
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
    """A fast guest is charged for its reads plus one or two answers."""
    async with broker(folder, ample=True) as site:
        qemu = Qemu((await site.ask("guest.add", {**VM, "rate": "1MiB/s"}))["socket"])
        for _ in range(60):
            await qemu.read()
        found = await until_guest(site, "vm1", owed_bytes=0)

        assert found["consumed_bytes"] == 60 * 64
        assert found["in_flight_bytes"] == found["full_bytes"] - 60 * 64 in {64, 128}


@in_a_loop
async def test_a_request_that_was_lost_is_answered(folder: Path) -> None:
    """A connected machine gets an answer without a request, then more."""
    async with broker(folder) as site:
        qemu = Qemu((await site.ask("guest.add", VM))["socket"])
        lost = [await qemu.answer(), await qemu.answer(), await qemu.answer()]

        assert len(set(lost)) == 3
        assert (await until_guest(site, "vm1", in_flight_bytes=64))["consumed_bytes"] == 3 * 64


@in_a_loop
async def test_what_no_machine_sends_ends_its_connection_and_no_other(folder: Path) -> None:
    """Any request that QEMU never sends is a violation at that socket."""
    async with broker(folder) as site:
        path = (await site.ask("guest.add", VM))["socket"]
        good = Qemu(path)
        for request in (b"\x00", b"\x01\x40", b"\x03\x00\x08\x01a", b"\xff\xff"):
            bad = Qemu(path)
            bad.say(request)
            assert await bad.more() == b""

        assert len(await good.read()) == 64
