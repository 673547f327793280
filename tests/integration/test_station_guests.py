"""Control verbs for guests of a running broker, each with a door."""

import asyncio
from pathlib import Path

import pytest

from drawwell.entropy.blocks import DrawClass
from drawwell.errors import (
    PermissionRefused,
    Starved,
    UsageError,
)
from drawwell.links.unix import UnixLink
from drawwell.testing.waiting import DEADLINE_S
from integration.guest_site import VM, Qemu, broker, guest, in_a_loop, there, until_guest

BOX = {"name": "box1", "kind": "lxc", "via": "socket"}


@in_a_loop
async def test_a_guest_gets_exactly_what_its_account_has(folder: Path) -> None:
    """A new guest can draw at its own socket at once."""
    async with broker(folder) as site:
        added = await site.ask("guest.add", VM)
        qemu = Qemu(added["socket"])
        first, second = await qemu.read(64), await qemu.read(255)
        found = await until_guest(site, "vm1", in_flight_bytes=64, owed_bytes=0)

        assert added["socket"] == f"{folder}/run/guests/vm1/egd.sock"
        assert first != second[:64]
        assert (found["connected"], found["asked"], found["consumed_bytes"]) == (1, 2, 319)
        assert found["full_bytes"] == 319 + 64
        status = await site.ask("status")
        (row,) = [row for row in status["consumers"] if row["name"] == "vm1"]
        assert (row["full_bytes"], row["guest"]) == (319 + 64, "qemu, virtio")
        assert f"guest vm1 (qemu, virtio) {added['socket']}" in status["doors"]


@in_a_loop
async def test_root_of_a_container_is_its_guest_and_no_owner(folder: Path) -> None:
    """At a guest's socket even root counts as that guest."""
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
    """Names, terms, doors and spent quotas survive a restart."""
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
    """A new user without a known group removes the old group."""
    async with broker(folder) as site:
        await site.ask("guest.add", {**VM, "uid": 12, "gid": 34})
        again = await site.ask("guest.add", {**VM, "uid": 56})
        same = await site.ask("guest.add", {**VM, "rate": "1KiB/s"})

        assert [(each["uid"], each["gid"]) for each in (again, same)] == [(56, None)] * 2


@in_a_loop
async def test_adding_again_changes_what_is_named(folder: Path) -> None:
    """null keeps a limit, "none" removes it; the open connection continues."""
    async with broker(folder) as site:
        added = await site.ask("guest.add", {**VM, "rate": "1KiB/s", "quota": "1MiB/day"})
        qemu = Qemu(added["socket"])
        await qemu.read()
        again = await site.ask("guest.add", {**VM, "rate": "none", "draw_class": "drbg"})
        await qemu.read()
        found = await until_guest(site, "vm1", consumed_bytes=128, owed_bytes=0)

        assert (again["rate"], again["quota"], again["class"]) == ("", "1MiB/day", "drbg")
        assert found["drbg_bytes"] >= 64


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
    """Bad or used names, unknown kinds and attachments are refused."""
    async with broker(folder, more='[[consumer]]\nname = "configured"\n') as site:
        await site.ask("consumer.invite", {"name": "web01"})
        with pytest.raises(UsageError):
            await site.ask("guest.add", arguments)
        assert await site.ask("guest.list") == {"guests": []}
        assert not there(folder / "run/guests/vm1")


@in_a_loop
async def test_a_guests_name_is_not_invited(folder: Path) -> None:
    """A guest's name is taken until it is removed."""
    async with broker(folder) as site:
        await site.ask("guest.add", VM)
        with pytest.raises(UsageError, match="guest"):
            await site.ask("consumer.invite", {"name": "vm1"})
        await site.ask("guest.remove", {"name": "vm1"})
        await site.ask("consumer.invite", {"name": "vm1"})


@in_a_loop
async def test_a_name_is_one_guest_of_one_kind(folder: Path) -> None:
    """A second kind is refused, with the command that removes the first."""
    async with broker(folder) as site:
        before = await site.ask("guest.add", BOX)
        with pytest.raises(UsageError, match="box1 is already a guest of kind lxc") as refused:
            await site.ask("guest.add", {"name": "box1", "kind": "qemu", "via": "virtio"})

        assert "guest apply lxc box1 --remove" in str(refused.value.hint)
        assert await guest(site, "box1") == before
        assert there(Path(before["socket"]))


@in_a_loop
async def test_a_removed_guest_is_gone(folder: Path) -> None:
    """The guest's connections end, and its directory is removed."""
    async with broker(folder) as site:
        qemu = Qemu((await site.ask("guest.add", VM))["socket"])
        await qemu.read()
        await site.ask("guest.remove", {"name": "vm1"})

        assert len(await qemu.answer(4096)) == 64  # the bytes sent ahead, and EOF
        assert await site.ask("guest.list") == {"guests": []}
        assert not there(folder / "run/guests/vm1")
        with pytest.raises(UsageError):
            await site.ask("guest.remove", {"name": "vm1"})


@in_a_loop
async def test_a_guest_is_not_removed_while_it_is_owed_bytes(folder: Path) -> None:
    """A used-up quota delays removal until exit 75; raising it helps."""
    async with broker(folder) as site:
        qemu = Qemu((await site.ask("guest.add", {**VM, "quota": "100B/week"}))["socket"])
        await qemu.read(64)
        qemu.ask(64)
        found = await until_guest(site, "vm1", owed_bytes=64)
        await until_guest(site, "vm1", waits="quota of 100B/week is used up")
        with pytest.raises(Starved, match="owed 64 bytes: quota of 100B/week") as refused:
            await site.ask("guest.remove", {"name": "vm1", "timeout_s": 0.2})  # short: it is refused
        status = await site.ask("status")
        notes = status["notes"]

        assert found["connected"] == 1
        assert [row["refused"] for row in status["consumers"] if row["name"] == "vm1"] == [0]  # it waits
        assert refused.value.exit_code == 75
        assert any("guest vm1 waits: quota of 100B/week is used up" in note for note in notes)
        await site.ask("guest.add", {**VM, "quota": "none"})
        assert len(await qemu.answer()) == 64
        await site.ask("guest.remove", {"name": "vm1", "timeout_s": DEADLINE_S})


@in_a_loop
async def test_a_settled_guest_is_answered_ahead_of_its_rate(folder: Path) -> None:
    """guest.settle answers requests that a low rate delays, and later ones."""
    async with broker(folder) as site:
        qemu = Qemu((await site.ask("guest.add", {**VM, "rate": "1B/h"}))["socket"])
        qemu.ask()
        await until_guest(site, "vm1", owed_bytes=64)
        (slowed,) = [row for row in (await site.ask("status"))["consumers"] if row["name"] == "vm1"]
        assert slowed["refused"] == 0, "it only waits"
        async with asyncio.TaskGroup() as tasks:
            settling = tasks.create_task(site.ask("guest.settle", {"name": "vm1", "timeout_s": DEADLINE_S}))
            await qemu.answer()
        assert settling.result()["owed_bytes"] == 0
        for _ in range(8):
            await qemu.read()

        assert (await guest(site, "vm1"))["full_bytes"] >= 9 * 64


@in_a_loop
async def test_one_guest_waits_and_the_other_does_not(folder: Path) -> None:
    """A guest with a used-up quota does not affect other guests."""
    async with broker(folder) as site:
        poor = Qemu((await site.ask("guest.add", {**VM, "quota": "64B/week"}))["socket"])
        rich = Qemu((await site.ask("guest.add", {**VM, "name": "vm2"}))["socket"])
        await poor.read()
        poor.ask()
        for _ in range(10):
            await rich.read()

        assert (await guest(site, "vm1"))["full_bytes"] == 64
        assert (await guest(site, "vm2"))["consumed_bytes"] == 640
