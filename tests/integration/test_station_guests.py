"""Guests of a running broker: added, limited, settled and removed by control verbs, each with a door of its own."""

import asyncio
import contextlib
import functools
import os
import shutil
import socket
import stat
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from drawwell.doors.qemu_egd.connection import AHEAD_REQUESTS
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import (
    PermissionRefused,
    Starved,
    UsageError,
)
from drawwell.links.unix import UnixLink
from drawwell.simulator.pty import PtyDevice
from support.station import Site, running

PATIENCE_S = 60.0
VM = {"name": "vm1", "kind": "qemu", "via": "virtio"}
BOX = {"name": "box1", "kind": "lxc", "via": "socket"}


def in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test in an event loop of its own."""
    return functools.wraps(test)(lambda *args, **kwargs: asyncio.run(test(*args, **kwargs)))


@contextlib.asynccontextmanager
async def broker(folder: Path, *, more: str = "", ample: bool = False) -> AsyncIterator[Site]:
    """A broker with one stick and a little in its reservoir, or plenty."""
    size = "" if ample else 'reservoir = "32KiB"\nmax_draw = "4KiB"'
    site = Site(folder, broker=size, more=more)
    stick = PtyDevice(folder / "stick", rate=400_000.0)
    async with asyncio.timeout(PATIENCE_S), stick, running(site):
        await site.until_healthy(share=0.6 if ample else 0.1)
        with CLIENTS:
            yield site


class Qemu:
    """What QEMU's rng-egd says."""

    def __init__(self, path: str) -> None:
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.connect(path)
        self._sock.setblocking(False)
        CLIENTS.callback(self._sock.close)

    def ask(self, n_bytes: int = 64) -> None:
        self.say(bytes((2, n_bytes)))

    def say(self, words: bytes) -> None:
        self._sock.send(words)

    async def answer(self, n_bytes: int = 64) -> bytes:
        data = b""
        while len(data) < n_bytes and (piece := await self.more(n_bytes - len(data))):
            data += piece
        return data

    async def more(self, n_bytes: int = 4096) -> bytes:
        try:
            return await asyncio.get_running_loop().sock_recv(self._sock, n_bytes)
        except ConnectionResetError:  # ended with something of ours unread
            return b""

    async def read(self, n_bytes: int = 64) -> bytes:
        self.ask(n_bytes)
        return await self.answer(n_bytes)


CLIENTS = contextlib.ExitStack()


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


def there(path: Path) -> bool:
    """Is anything there, and be it a link?"""
    return os.path.lexists(path)


async def guest(site: Site, name: str) -> dict:
    """What guest.list says of one."""
    return next(each for each in (await site.ask("guest.list"))["guests"] if each["name"] == name)


async def until_guest(site: Site, name: str, **wanted: object) -> dict:
    """Wait until guest.list says so."""
    while not wanted.items() <= (found := await guest(site, name)).items():  # noqa: ASYNC110 - another process's
        await asyncio.sleep(0.01)
    return found


@in_a_loop
async def test_a_guest_gets_exactly_what_its_account_says(folder: Path) -> None:
    """Added while the broker runs, it draws at its own socket at once, as itself and nobody else."""
    async with broker(folder) as site:
        added = await site.ask("guest.add", VM)
        qemu = Qemu(added["socket"])
        first, second = await qemu.read(64), await qemu.read(255)
        found = await guest(site, "vm1")

        assert added["socket"] == f"{folder}/run/guests/vm1/egd.sock"
        assert first != second[:64]
        assert (found["connected"], found["asked"], found["full_bytes"], found["owed_bytes"]) == (
            1,
            2,
            319,
            0,
        )
        status = await site.ask("status")
        (row,) = [row for row in status["consumers"] if row["name"] == "vm1"]
        assert (row["full_bytes"], row["guest"]) == (319, "qemu, virtio")
        assert f"guest vm1 (qemu, virtio) {added['socket']}" in status["doors"]


@in_a_loop
async def test_root_of_a_container_is_its_guest_and_no_owner(folder: Path) -> None:
    """At a guest's socket even root draws as that guest, and may ask nothing that is the owner's."""
    async with broker(folder) as site:
        socket = (await site.ask("guest.add", BOX))["socket"]
        link = UnixLink(socket)
        grant = await link.draw(32, DrawClass.FULL)
        status = await link.call("status", {})
        with pytest.raises(PermissionRefused):
            await link.call("guest.list", {})
        with pytest.raises(PermissionRefused):
            await link.call("renew", {"csr": ""})
        await link.aclose()

        assert len(grant) == 32
        assert [each["name"] for each in status["consumers"]] == ["box1"]
        assert (await guest(site, "box1"))["full_bytes"] == 32


@in_a_loop
async def test_guests_are_there_again_after_a_restart(folder: Path) -> None:
    """Their names, terms and doors are in the store, and what they spent of their quota stays spent."""
    async with broker(folder) as site:
        added = await site.ask(
            "guest.add", {**VM, "quota": "1KiB/week", "rate": "64KiB/s", "uid": 12, "gid": 34}
        )
        await (Qemu(added["socket"])).read(255)
    async with broker(folder) as site:
        found = await guest(site, "vm1")
        assert {key: found[key] for key in ("kind", "via", "rate", "quota", "class", "uid", "gid")} == {
            "kind": "qemu", "via": "virtio", "rate": "64KiB/s", "quota": "1KiB/week", "class": "full",
            "uid": 12, "gid": 34,
        }  # fmt: skip
        status = await site.ask("status")
        (left,) = [row["quota_left_bytes"] for row in status["consumers"] if row["name"] == "vm1"]
        assert left <= 1024 - 255


@in_a_loop
async def test_a_new_user_does_not_keep_the_group_of_the_one_before(folder: Path) -> None:
    """A guest that is said to run as another, of whom no group is known, lets the first one's group in no more."""
    async with broker(folder) as site:
        await site.ask("guest.add", {**VM, "uid": 12, "gid": 34})
        again = await site.ask("guest.add", {**VM, "uid": 56})
        same = await site.ask("guest.add", {**VM, "rate": "1KiB/s"})

        assert [(each["uid"], each["gid"]) for each in (again, same)] == [(56, None)] * 2


@in_a_loop
async def test_adding_again_changes_what_is_named(folder: Path) -> None:
    """None leaves an allowance, none lifts it; the open connection goes on."""
    async with broker(folder) as site:
        added = await site.ask("guest.add", {**VM, "rate": "1KiB/s", "quota": "1MiB/day"})
        qemu = Qemu(added["socket"])
        await qemu.read()
        again = await site.ask("guest.add", {**VM, "rate": "none", "draw_class": "drbg"})
        await qemu.read()

        assert (again["rate"], again["quota"], again["class"]) == ("", "1MiB/day", "drbg")
        assert (await guest(site, "vm1"))["drbg_bytes"] == 64


@pytest.mark.parametrize(
    "arguments",
    [
        {**VM, "name": "../vm1"},
        {**VM, "name": "vm1;reboot"},
        {**VM, "name": "<vm1>"},
        {**VM, "name": 7},
        {**VM, "kind": "xen"},
        {**VM, "via": "socket"},
        {**VM, "rate": "fast"},
        {**VM, "rate": 7},
        {**VM, "draw_class": "best"},
        {**VM, "uid": -1},
        {**VM, "gid": True},
        {**VM, "name": "local"},
        {**VM, "name": "web01"},
        {**VM, "name": "configured"},
    ],
)
@in_a_loop
async def test_what_makes_no_sense_is_refused(folder: Path, arguments: dict) -> None:
    """Names that are no names or are taken, kinds and ways in that do not exist: nothing is added."""
    async with broker(folder, more='[[consumer]]\nname = "configured"\n') as site:
        await site.ask("consumer.invite", {"name": "web01"})
        with pytest.raises(UsageError):
            await site.ask("guest.add", arguments)
        assert await site.ask("guest.list") == {"guests": []}
        assert not there(folder / "run/guests/vm1")


@in_a_loop
async def test_nobody_is_invited_under_a_guests_name(folder: Path) -> None:
    """A guest's name is taken until it is removed."""
    async with broker(folder) as site:
        await site.ask("guest.add", VM)
        with pytest.raises(UsageError, match="guest"):
            await site.ask("consumer.invite", {"name": "vm1"})
        await site.ask("guest.remove", {"name": "vm1"})
        await site.ask("consumer.invite", {"name": "vm1"})


@in_a_loop
async def test_a_removed_guest_is_gone(folder: Path) -> None:
    """Its connections end, its directory is away, it is in no list, and it draws no more."""
    async with broker(folder) as site:
        qemu = Qemu((await site.ask("guest.add", VM))["socket"])
        await qemu.read()
        await site.ask("guest.remove", {"name": "vm1"})

        assert await qemu.more() == b""
        assert await site.ask("guest.list") == {"guests": []}
        assert not there(folder / "run/guests/vm1")
        with pytest.raises(UsageError):
            await site.ask("guest.remove", {"name": "vm1"})


@in_a_loop
async def test_a_guest_is_not_removed_while_it_is_owed_bytes(folder: Path) -> None:
    """A quota that is used up makes the removal wait, and refuse with exit 75; a raised one lets it go on."""
    async with broker(folder) as site:
        qemu = Qemu((await site.ask("guest.add", {**VM, "quota": "100B/week"}))["socket"])
        await qemu.read(64)
        qemu.ask(64)
        found = await until_guest(site, "vm1", owed_bytes=64)
        await until_guest(site, "vm1", waits="quota of 100B/week is used up")
        with pytest.raises(Starved, match="owed 64 bytes: quota of 100B/week") as refused:
            await site.ask("guest.remove", {"name": "vm1", "timeout_s": 0.2})
        notes = (await site.ask("status"))["notes"]

        assert found["connected"] == 1
        assert refused.value.exit_code == 75
        assert any("guest vm1 waits: quota of 100B/week is used up" in note for note in notes)
        await site.ask("guest.add", {**VM, "quota": "none"})
        assert len(await qemu.answer()) == 64
        await site.ask("guest.remove", {"name": "vm1", "timeout_s": 30})


@in_a_loop
async def test_a_settled_guest_is_answered_ahead_of_its_rate(folder: Path) -> None:
    """A rate of a byte an hour keeps what is asked waiting; guest.settle has it answered, and what comes next, too."""
    async with broker(folder) as site:
        qemu = Qemu((await site.ask("guest.add", {**VM, "rate": "1B/h"}))["socket"])
        qemu.ask()
        await until_guest(site, "vm1", owed_bytes=64)
        async with asyncio.TaskGroup() as tasks:
            settling = tasks.create_task(site.ask("guest.settle", {"name": "vm1", "timeout_s": 30}))
            await qemu.answer()
        assert settling.result()["owed_bytes"] == 0
        for _ in range(8):
            await qemu.read()

        assert (await guest(site, "vm1"))["full_bytes"] >= 9 * 64


@in_a_loop
async def test_one_guest_waits_and_the_other_does_not(folder: Path) -> None:
    """A guest whose quota is used up costs its neighbour nothing."""
    async with broker(folder) as site:
        poor = Qemu((await site.ask("guest.add", {**VM, "quota": "64B/week"}))["socket"])
        rich = Qemu((await site.ask("guest.add", {**VM, "name": "vm2"}))["socket"])
        await poor.read()
        poor.ask()
        for _ in range(10):
            await rich.read()

        assert (await guest(site, "vm1"))["full_bytes"] == 64
        assert (await guest(site, "vm2"))["full_bytes"] == 640


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
        got = [await qemu.read() for _ in range(60)]
        found = await guest(site, "vm1")
        ahead = found["full_bytes"] - 60 * 64

        assert 0 < ahead <= AHEAD_REQUESTS * 64
        got += [await qemu.answer() for _ in range(ahead // 64)]
        assert len(set(got)) == len(got)
        assert found["owed_bytes"] == 0


@in_a_loop
async def test_nothing_is_sent_ahead_to_a_guest_with_a_rate(folder: Path) -> None:
    """What it is charged is what it asked for, however fast it asks."""
    async with broker(folder, ample=True) as site:
        qemu = Qemu((await site.ask("guest.add", {**VM, "rate": "1MiB/s"}))["socket"])
        for _ in range(60):
            await qemu.read()

        assert (await guest(site, "vm1"))["full_bytes"] == 60 * 64


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
