"""A running broker and a QEMU that requests bytes."""

import array
import asyncio
import contextlib
import fcntl
import functools
import os
import socket
import termios
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

from drawwell.simulator.pty import PtyDevice
from drawwell.testing.waiting import DEADLINE_S, LOOK_EVERY_S
from support.station import Site, running

VM = {"name": "vm1", "kind": "qemu", "via": "virtio"}


def in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test in its own event loop."""
    return functools.wraps(test)(lambda *args, **kwargs: asyncio.run(test(*args, **kwargs)))


@contextlib.asynccontextmanager
async def broker(folder: Path, *, more: str = "", ample: bool = False) -> AsyncIterator[Site]:
    """Run a broker with one stick and a small or full reservoir."""
    size = "" if ample else 'reservoir = "32KiB"\nmax_draw = "4KiB"'
    site = Site(folder, broker=size, more=more)
    stick = PtyDevice(folder / "stick", rate=400_000.0)
    async with asyncio.timeout(DEADLINE_S), stick, running(site):
        await site.until_healthy(share=0.6 if ample else 0.1)
        with CLIENTS:
            yield site


def lying_bytes(sock: socket.socket) -> int:
    """What lies in a socket, unread (SIOCINQ, unix(7))."""
    size = array.array("i", [0])
    fcntl.ioctl(sock, termios.FIONREAD, size)
    return size[0]


class Qemu:
    """The requests that QEMU's rng-egd sends."""

    def __init__(self, path: str) -> None:
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.connect(path)
        self._sock.setblocking(False)
        CLIENTS.callback(self._sock.close)

    def ask(self, n_bytes: int = 64) -> None:
        self.say(bytes((2, n_bytes)))

    def say(self, data: bytes) -> None:
        self._sock.send(data)

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

    @property
    def lying_bytes(self) -> int:
        """What lies in the socket, unread."""
        return lying_bytes(self._sock)


CLIENTS = contextlib.ExitStack()


def there(path: Path) -> bool:
    """Return whether a path exists, even as a dangling link."""
    return os.path.lexists(path)


async def guest(site: Site, name: str) -> dict:
    """Return a guest's entry in guest.list."""
    return next(each for each in (await site.ask("guest.list"))["guests"] if each["name"] == name)


async def until_guest(site: Site, name: str, **wanted: object) -> dict:
    """Wait until guest.list shows these values."""
    while not wanted.items() <= (found := await guest(site, name)).items():  # noqa: ASYNC110 - another process's
        await asyncio.sleep(LOOK_EVERY_S)
    return found
