"""A real broker whose state becomes unwritable and writable again."""

import asyncio
import base64
import resource

import pytest

from drawwell.crypto.sshkeys import fingerprint, parse_public_key
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import AuthenticationFailed, DrawRefused, LinkUnavailable, StateUnavailable
from drawwell.links.unix import UnixLink
from drawwell.simulator.pty import PtyDevice
from drawwell.wire.frames import Bye, Hello
from support.daemon import Daemon, command
from support.station import Site

pytestmark = pytest.mark.slow

GUEST = {"name": "box", "kind": "lxc", "via": "socket"}
FREE = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


def test_while_the_state_cannot_be_written_nothing_limited_is_served_and_then_all_goes_on(folder) -> None:
    """A failed write refuses the draw uncharged; later draws succeed."""
    site = Site(folder)

    async def run() -> None:
        async with PtyDevice(folder / "stick", seed=1, rate=0):
            with Daemon("broker", config=site.path, log=folder / "log") as daemon:
                await site.until_healthy(share=1.0)
                link = site.link(await site.enrol("web01", quota="100000B/h"))
                await link.draw(32, DrawClass.FULL)
                before = await site.ask("status")
                resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
                for draw_class in DrawClass:
                    with pytest.raises(StateUnavailable) as refused:
                        await link.draw(60_000, draw_class)
                    assert refused.value.hint
                after = await site.ask("status")
                (web01,) = (each for each in before["consumers"] if each["name"] == "web01")
                web01["refused"] = 2
                assert (after["ledger"], after["consumers"]) == (before["ledger"], before["consumers"])
                health = await asyncio.to_thread(command, "check-health", config=site.path)
                assert (health.returncode, "the state cannot be written" in health.stdout) == (2, True)
                with pytest.raises(StateUnavailable):
                    await site.enrol("db01")
                assert (
                    await asyncio.to_thread(command, "draw", "8", "--hex", config=site.path)
                ).returncode == 0
                resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, FREE)
                assert len(await link.draw(60_000, DrawClass.FULL)) == 60_000
                assert await site.enrol("db01")
                await link.aclose()

    asyncio.run(run())


def test_a_revocation_holds_on_a_full_disk_and_is_written_later(folder) -> None:
    """Both sessions end at once, and the risk of a restart is reported."""
    site = Site(folder)

    async def run() -> None:
        async with PtyDevice(folder / "stick", seed=1, rate=0):
            with Daemon("broker", config=site.path, log=folder / "log") as daemon:
                await site.until_healthy()
                link = site.link(await site.enrol("bad"))
                await site.enrol("good")
                guest = UnixLink((await site.ask("guest.add", GUEST))["socket"])
                for each in (link, guest):
                    await each.draw(8, DrawClass.FULL)
                resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
                for verb, name in (("consumer.revoke", "bad"), ("guest.remove", "box")):
                    with pytest.raises(StateUnavailable, match="would be lost by a restart"):
                        await site.ask(verb, {"name": name})
                for each, error in ((link, AuthenticationFailed), (guest, LinkUnavailable)):
                    with pytest.raises(error):
                        await each.draw(8, DrawClass.FULL)
                assert "consumer bad is revoked; guest box is removed" in await notes(site)
                resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, FREE)
                await site.ask("consumer.quota", {"name": "good", "rate": "1KiB/s"})
                assert "lost by a restart" not in await notes(site)
                daemon.kill()
            with Daemon("broker", config=site.path, log=folder / "log"):
                await site.until_healthy()
                with pytest.raises(AuthenticationFailed):
                    await link.draw(8, DrawClass.FULL)
                assert (await site.ask("guest.list"))["guests"] == []

    asyncio.run(run())


def test_other_limits_and_another_key_hold_on_a_full_disk(folder) -> None:
    """New limits and SSH keys take effect before they are written."""
    site = Site(folder, more='[ssh]\nuser = "daemon"')

    async def run() -> None:
        async with PtyDevice(folder / "stick", seed=1, rate=0):
            with Daemon("broker", config=site.path, log=folder / "log") as daemon:
                await site.until_healthy()
                link = site.link(await site.enrol("web01"))
                guest = UnixLink((await site.ask("guest.add", GUEST))["socket"])
                for each in (link, guest):
                    await each.draw(8, DrawClass.FULL)
                old = (await site.ask("consumer.invite", {"name": "db01", "ssh_key": KEYS[0]}))["fingerprint"]
                new = fingerprint(parse_public_key(KEYS[1]))
                resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
                for verb, arguments in (
                    ("consumer.quota", {"name": "web01", "draw_class": "drbg"}),
                    ("consumer.quota", {"name": "web01", "rate": "10B/s"}),
                    ("guest.add", {**GUEST, "draw_class": "drbg"}),
                    ("consumer.invite", {"name": "db01", "ssh_key": KEYS[1]}),
                ):
                    with pytest.raises(StateUnavailable, match="would be lost by a restart"):
                        await site.ask(verb, arguments)
                for each in (link, guest):
                    with pytest.raises(DrawRefused, match="class"):
                        await each.draw(8, DrawClass.FULL)
                assert [await greeted(site, key) for key in (old, new)] == [False, True]
                changes = (
                    "consumer web01 has new limits; guest box has new limits; consumer db01 has a new key"
                )
                assert changes in await notes(site)
                resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, FREE)
                await site.ask("consumer.revoke", {"name": "web01"})
                assert "lost by a restart" not in await notes(site)
                daemon.kill()
            with Daemon("broker", config=site.path, log=folder / "log"):
                await site.until_healthy()
                with pytest.raises(AuthenticationFailed):
                    await link.draw(8, DrawClass.FULL)
                assert [await greeted(site, key) for key in (old, new)] == [False, True]

    asyncio.run(run())


KEYS = [
    f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{base64.b64encode(bytes([0, 0, number]) * 11)[:43].decode()}"
    for number in (1, 2)
]


async def greeted(site: Site, key: str) -> bool:
    """Return whether the SSH door admits db01 with this fingerprint."""
    reader, writer = await asyncio.open_unix_connection(str(site.folder / "run" / "ssh.sock"))
    writer.write(f"db01 {key}\n".encode() + Hello((1,)).encode() + Bye().encode())
    answer = await reader.read()
    writer.close()
    return b"may not use this key" not in answer


async def notes(site: Site) -> str:
    return "\n".join((await site.ask("status"))["notes"])
