"""Firecracker's vsock, simulated; the real one was not run.

The stand-in does what docs/vsock.md of Firecracker describes: it listens at ``uds_path``,
where programs of the host send ``CONNECT PORT`` and read ``OK``; a connection to a port in
the guest is connected to ``uds_path_PORT``.
"""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from drawwell.entropy.blocks import DrawClass
from drawwell.errors import GuestUnavailable, UsageError
from drawwell.guests.firecracker import PORT, Firecracker
from drawwell.guests.model import Attachment, Guest, GuestKind
from drawwell.links.unix import UnixLink
from integration.guest_site import broker, guest, in_a_loop, there
from support.daemon import command

NAME = "micro1"


class StandIn:
    """A simulated Firecracker vsock device, without a machine."""

    def __init__(self, uds_path: Path) -> None:
        self.uds_path = uds_path

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            line = await reader.readline()
            if line.startswith(b"CONNECT "):
                writer.write(b"OK 1073741824\n")
            writer.close()

        server = await asyncio.start_unix_server(answer, self.uds_path)
        async with server:
            yield

    async def bridge(self, path: Path) -> asyncio.Server:
        """Act as a guest's socat: from a Unix socket to the host's port `PORT`."""

        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.closing(writer):
                there = await asyncio.open_unix_connection(f"{self.uds_path}_{PORT}")
                await asyncio.gather(_copy(reader, there[1]), _copy(there[0], writer))

        return await asyncio.start_unix_server(carry, path)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(4096):
            writer.write(data)
        writer.close()


@in_a_loop
async def test_a_machine_draws_through_its_vsock(folder: Path) -> None:
    """A process in the guest draws as the guest; --remove removes everything."""
    vm = StandIn(folder / "v.sock")
    async with broker(folder) as site, vm.running():
        arguments = ("guest", "apply", "firecracker", NAME, "--connect", str(vm.uds_path), "--json")

        async def typed(*more: str) -> list[dict]:
            done = await asyncio.to_thread(command, *arguments, *more, config=site.path)
            assert done.returncode == 0, done.stderr
            return json.loads(done.stdout)["changes"]

        assert len(await typed()) == 2
        assert await typed() == []
        async with await vm.bridge(folder / "in-guest.sock"):
            link = UnixLink(str(folder / "in-guest.sock"))
            grant = await link.draw(32, DrawClass.FULL)
            await link.aclose()
        assert len(grant.data) == 32
        assert (await guest(site, NAME))["full_bytes"] == 32

        assert len(await typed("--remove")) == 2
        assert not there(folder / f"v.sock_{PORT}")


def test_what_is_not_ours_stays(folder: Path) -> None:
    """An existing foreign socket is kept; a machine without a path is refused."""
    bytes_for = Guest(GuestKind.FIRECRACKER, NAME, Attachment.SOCKET)
    theirs = folder / f"v.sock_{PORT}"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(theirs))
        with pytest.raises(GuestUnavailable, match="not ours"):
            Firecracker(str(folder / "v.sock")).apply(bytes_for)
    assert Firecracker(str(folder / "v.sock")).remove(bytes_for) == []
    assert theirs.exists()
    with pytest.raises(UsageError, match="machine is required"):
        Firecracker().plan(bytes_for)
