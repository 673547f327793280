"""At every door a session ends when its credential is replaced."""

import asyncio
import contextlib
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from drawwell.authorisation import DoorKind
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import AuthenticationFailed
from drawwell.links.identity import LinkIdentity, load
from drawwell.roles.run import RunProcess
from drawwell.simulator.pty import PtyDevice
from drawwell.testing.waiting import DEADLINE_S
from drawwell.wire.frames import Hello
from support.station import Site, running

HELLO = Hello((1,)).encode()
GET = b"GET /v1/status HTTP/1.1\r\nHost: well\r\n\r\n"
USER = '[ssh]\nuser = "{2}"\n[http]\nlisten = "{0}/http.sock"\n[[consumer]]\nname = "{1}"\nuser = "root"\n'
SPEAKER = "nobody"  # wording: an account of the system
Session = tuple[asyncio.StreamReader, asyncio.StreamWriter]
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")


class Old:
    """A broker, and an open session with a credential to be replaced."""

    def __init__(self, site: Site, process: RunProcess) -> None:
        self.site = site
        self.process = process

    async def unix(self, path: str, first: bytes) -> Session:
        session = await asyncio.open_unix_connection(path)
        session[1].write(first)
        assert await session[0].read(1)
        return session

    async def tls(self, identity: LinkIdentity, *protocols: str, first: bytes = b"") -> Session:
        context = ssl.create_default_context(cafile=identity.ca_path)
        context.load_cert_chain(identity.certificate_path, identity.key_path)
        if protocols:
            context.set_alpn_protocols(list(protocols))
        session = await asyncio.open_connection(self.site.address, 55000, ssl=context)
        session[1].write(first)
        assert await session[0].read(1)
        return session

    async def join(self, **terms: str) -> LinkIdentity:
        """Join as web01 and move the identity away."""
        identity = await self.site.enrol("web01", **terms)
        shutil.copytree(identity.directory, f"{identity.directory}.kept", dirs_exist_ok=True)
        return load(f"{identity.directory}.kept")

    async def ssh_key(self, name: str) -> str:
        """Invite web01 with a new SSH key; return its authorized_keys line."""
        path = self.site.folder / name
        arguments = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path]
        await asyncio.to_thread(subprocess.run, arguments, check=True)
        text = path.with_suffix(".pub").read_text()
        made = await self.site.ask("consumer.invite", {"name": "web01", "ssh_key": text})
        return f"web01 {made['fingerprint']}\n"

    async def refused(self, path: str, line: str) -> None:
        """Check that a session with an old key cannot be opened."""
        reader, writer = await self.unix(path, line.encode() + HELLO)
        assert b"may not use this key" in await reader.read()
        writer.close()

    async def reload_as(self, name: str) -> None:
        """Make this test's user another consumer."""
        self.site.write(USER.format(self.site.folder, name, SPEAKER))
        await self.process.reload()


async def over_ssh(old: Old) -> Session:
    """Replace the SSH key with a new one, twice."""
    path = f"{old.site.folder}/run/ssh.sock"
    line = await old.ssh_key("k1")
    session = await old.unix(path, line.encode() + HELLO)
    other = await old.ssh_key("k2")
    await old.refused(path, line)
    await old.site.ask("consumer.revoke", {"name": "web01"})
    await old.ssh_key("k3")
    for stale in (line, other):
        await old.refused(path, stale)
    return session


def over_tls(*protocols: str, first: bytes = b"", **terms: str) -> Callable[[Old], Awaitable[Session]]:
    """Join again under the same name."""

    async def scenario(old: Old) -> Session:
        identity = await old.join(**terms)
        session = await old.tls(identity, *protocols, first=first)
        await old.site.enrol("web01")
        with pytest.raises(AuthenticationFailed):
            await old.site.link(identity).draw(8, DrawClass.FULL)
        return session

    return scenario


def by_user(file: str, first: bytes) -> Callable[[Old], Awaitable[Session]]:
    """Reload a configuration in which the user is another consumer."""

    async def scenario(old: Old) -> Session:
        session = await old.unix(f"{old.site.folder}/{file}", first)
        await old.reload_as("other")
        return session

    return scenario


def as_guest(kind: str, via: str, first: bytes) -> Callable[[Old], Awaitable[Session]]:
    """Make the guest run as another user."""

    async def scenario(old: Old) -> Session:
        arguments = {"name": "g1", "kind": kind, "via": via}
        path = (await old.site.ask("guest.add", {**arguments, "uid": 12345}))["socket"]
        old.site.folder.chmod(0o711)
        guest = socket.socket(socket.AF_UNIX)
        os.seteuid(12345)
        try:
            guest.connect(path)
        finally:
            os.seteuid(0)
        session = await asyncio.open_unix_connection(sock=guest)
        session[1].write(first)
        assert await session[0].read(1)
        await old.site.ask("guest.add", {**arguments, "uid": 23456})
        return session

    return scenario


DOORS: dict[DoorKind, Callable[[Old], Awaitable[Session]] | str] = {
    DoorKind.SSH: over_ssh,
    DoorKind.TLS: over_tls("drawwell/1", first=HELLO),
    DoorKind.HTTPS: over_tls("http/1.1", first=GET),
    DoorKind.STREAM: over_tls(stream="yes"),
    DoorKind.UNIX: by_user("run/draw.sock", HELLO),
    DoorKind.CONTROL: by_user("run/control.sock", HELLO),
    DoorKind.HTTP: by_user("http.sock", GET),
    DoorKind.GUEST: as_guest("lxc", "socket", HELLO),
    DoorKind.USB: as_guest("qemu", "usb-virtual", b""),
    DoorKind.EGD: as_guest("qemu", "virtio", b"\x02\x08"),
    DoorKind.LINK: "root, its own user and the kernel's feed, none of which changes while it runs",
    DoorKind.DEPOSIT: "root, its own user and [broker] source_user, which takes a restart",
    DoorKind.PROBE: "public",
}


def test_every_door_was_asked() -> None:
    """Every kind of door has a scenario, or a reason not to have one."""
    assert set(DOORS) == set(DoorKind)


@pytest.mark.parametrize("door", [door for door, scenario in DOORS.items() if callable(scenario)])
def test_a_session_ends_with_the_credential_that_it_was_opened_with(folder: Path, door: DoorKind) -> None:
    """A session with an old credential ends at once."""
    scenario = DOORS[door]
    assert callable(scenario)
    site = Site(folder, more=USER.format(folder, "mine", SPEAKER))

    async def run() -> None:
        async with PtyDevice(folder / "stick", rate=0), running(site) as process, asyncio.timeout(DEADLINE_S):
            await site.until_healthy(share=0.1)
            reader, writer = await scenario(Old(site, process))
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await reader.read()
            writer.transport.abort()

    asyncio.run(run())
