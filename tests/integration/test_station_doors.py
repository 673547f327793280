"""A complete broker with its doors, and their status lines."""

import asyncio
import ssl
from pathlib import Path

import pytest

from drawwell.errors import UsageError
from drawwell.testing import sick
from support.station import Site, running

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"


def site_of(folder: Path, more: str) -> Site:
    """Return a broker with recorded noise."""
    (folder / "noise").write_bytes(sick.good(3).read(2**20))
    source = f'[[source]]\nname = "noise"\ndriver = "replay"\npath = "{folder}/noise"\n'
    return Site(folder, sticks=(), more=source + more)


async def ready(site: Site) -> dict:
    return await site.until_healthy(1, share=0.1)


def doors(status: dict, kind: str) -> list[str]:
    return [door for door in status["doors"] if door.startswith(f"{kind} ")]


def test_egd_doors_serve_their_consumer_and_status_shows_to_whom(folder: Path) -> None:
    """Status has consumer and class of a socket and of an open port."""
    address = f"{Site(folder).address}:8888"
    site = site_of(
        folder,
        '[[consumer]]\nname = "guest1"\n[[consumer]]\nname = "guest2"\nquota = "1KiB/day"\n'
        f'[[egd]]\nlisten = "{folder}/g1"\nconsumer = "guest1"\nmode = "0600"\n'
        f'[[egd]]\nlisten = "{address}"\nconsumer = "guest2"\nclass = "drbg"\n',
    )

    async def run() -> None:
        async with running(site):
            status = await ready(site)
            assert doors(status, "egd") == [
                f"egd {folder}/g1, class full: any user that can open it (mode 0600) is consumer guest1",
                f"egd {address}, class drbg: any local user is consumer guest2",
            ]
            assert (folder / "g1").stat().st_mode & 0o777 == 0o600
            host, _, port = address.rpartition(":")
            for reader, writer in (
                await asyncio.open_unix_connection(str(folder / "g1")),
                await asyncio.open_connection(host, int(port)),
            ):
                writer.write(b"\x02\x40")
                assert len(await reader.readexactly(64)) == 64
                writer.close()
            consumers = {each["name"]: each for each in (await site.ask("status"))["consumers"]}
            assert (consumers["guest1"]["full_bytes"], consumers["guest1"]["drbg_bytes"]) == (64, 0)
            assert (consumers["guest2"]["full_bytes"], consumers["guest2"]["drbg_bytes"]) == (0, 64)

    asyncio.run(run())


def test_invited_stream_is_served_and_switched_off_again(folder: Path) -> None:
    """`--stream` streams until it is disabled; status shows both."""
    site = site_of(folder, "")

    async def run() -> None:
        async with running(site):
            await ready(site)
            identity = await site.enrol("web01", stream="yes")
            context = ssl.create_default_context(cafile=f"{identity.directory}/ca.pem")
            context.load_cert_chain(f"{identity.directory}/cert.pem", f"{identity.directory}/key.pem")
            host, _, port = site.tls.rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
            assert len(set(await reader.readexactly(640))) > 100
            assert await _stream_of(site, "web01") == "full"

            await site.ask("consumer.quota", {"name": "web01", "stream": "no"})
            await reader.read()
            writer.close()
            assert await _stream_of(site, "web01") == ""

    asyncio.run(run())


async def _stream_of(site: Site, name: str) -> str:
    consumers = (await site.ask("status"))["consumers"]
    return next(each["stream"] for each in consumers if each["name"] == name)


def test_broker_with_ssh_alone_invites_by_key_alone(folder: Path) -> None:
    """Without TLS machines cannot join, but SSH keys work; status shows this."""
    site = site_of(folder, '[ssh]\nuser = "daemon"\n')
    text = site.path.read_text()
    site.path.write_text(text.replace(f'[tls]\nlisten = "{site.tls}"\nnames = ["{site.address}"]\n', ""))

    async def run() -> None:
        async with running(site):
            status = await ready(site)
            assert doors(status, "tls") == []
            assert doors(status, "ssh") == [
                f"ssh {folder}/run/ssh.sock: user daemon draws on behalf of every consumer with a key"
            ]
            with pytest.raises(UsageError, match="machines cannot join"):
                await site.ask("consumer.invite", {"name": "web01"})
            given = await site.ask("consumer.invite", {"name": "web01", "ssh_key": f"{KEY} me@here"})
            assert given["ssh_key"] == KEY
            listed = (await site.ask("consumer.list"))["consumers"][0]
            assert (listed["name"], listed["ssh_key"]) == ("web01", given["fingerprint"])
            await site.ask("consumer.revoke", {"name": "web01"})
            assert (await site.ask("consumer.list"))["consumers"][0]["ssh_key"] == ""

    asyncio.run(run())


def test_broker_without_doors_for_others_judges_and_lists(folder: Path) -> None:
    """Without TLS and SSH, the list is empty; bad terms are the first error."""
    site = site_of(folder, "")
    text = site.path.read_text()
    site.path.write_text(text.replace(f'[tls]\nlisten = "{site.tls}"\nnames = ["{site.address}"]\n', ""))

    async def run() -> None:
        async with running(site):
            assert await site.ask("consumer.list", {"pattern": "web*"}) == {"consumers": [], "next": None}
            for verb in ("consumer.invite", "consumer.quota"):
                with pytest.raises(UsageError, match="fast"):
                    await site.ask(verb, {"name": "web01", "rate": "fast"})
                with pytest.raises(UsageError, match="cannot invite consumers"):
                    await site.ask(verb, {"name": "web01", "rate": "4KiB/s"})
            with pytest.raises(UsageError, match="cannot invite consumers"):
                await site.ask("consumer.revoke", {"name": "web01"})

    asyncio.run(run())


def test_broker_without_ssh_takes_no_key(folder: Path) -> None:
    """A key that no door would use is refused, with the setting."""
    site = site_of(folder, "")

    async def run() -> None:
        async with running(site):
            await ready(site)
            with pytest.raises(UsageError, match="no SSH door"):
                await site.ask("consumer.invite", {"name": "web01", "ssh_key": KEY})

    asyncio.run(run())
