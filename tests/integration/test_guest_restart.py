"""A guest's connection outlives its broker; the next broker answers."""

import asyncio
import contextlib
import os
import random
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from drawwell.doors.qemu_egd.connection import AHEAD_REQUESTS
from drawwell.testing.waiting import DEADLINE_S, wait_until
from integration.guest_site import lying_bytes
from support.daemon import Daemon, StickThread
from support.station import Site

VM = {"name": "vm1", "kind": "qemu", "via": "virtio"}


class Supervised:
    """A broker with its supervisor, and one connected guest."""

    def __init__(self, site: Site, daemon: Daemon) -> None:
        self.site, self.daemon = site, daemon
        wait_until(self.answers, "the broker serves")
        added = asyncio.run(site.ask("guest.add", VM))
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(DEADLINE_S)
        self.sock.connect(added["socket"])

    def answers(self) -> bool:
        """Return whether a broker is running and has bytes."""
        return self.has(4096)

    def has(self, n_bytes: int) -> bool:
        """Return whether a broker has more than this."""
        try:
            return bool(asyncio.run(self.site.ask("status"))["reservoir_bytes"] > n_bytes)
        except Exception:  # noqa: BLE001 - it is not there, or half
            return False

    @property
    def broker(self) -> int:
        """Return the process ID of the current broker."""
        children = Path(f"/proc/{self.daemon.pid}/task/{self.daemon.pid}/children").read_text().split()
        return int(children[0]) if children else 0

    def ask(self, n_bytes: int = 64) -> None:
        self.sock.sendall(bytes((2, n_bytes)))

    def answer(self, n_bytes: int = 64) -> bytes:
        data = b""
        while len(data) < n_bytes:
            piece = self.sock.recv(n_bytes - len(data))
            assert piece, "the connection was closed"
            data += piece
        return data

    def until_the_end(self) -> None:
        """Read the bytes sent ahead, up to EOF."""
        while self.sock.recv(4096):
            pass

    def read_on(self) -> None:
        """Read until many bytes are in the socket ahead of requests."""
        while lying_bytes(self.sock) <= 2 * 64:
            self.ask()
            self.answer()

    def end(self, number: signal.Signals) -> int:
        """Kill the broker, and return its process ID when it is gone."""
        gone = self.broker
        os.kill(gone, number)
        wait_until(lambda: self.broker not in {gone, 0}, "another broker runs")
        return gone


@contextlib.contextmanager
def supervised(folder: Path, size: str = 'reservoir = "32KiB"\nmax_draw = "4KiB"') -> Iterator[Supervised]:
    site = Site(folder, broker=size)
    with (
        StickThread(folder / "stick", rate=400_000.0),
        Daemon("run", "--supervised", config=site.path, log=folder / "log") as daemon,
    ):
        guest = Supervised(site, daemon)
        try:
            yield guest
        finally:
            guest.sock.close()
            if daemon.running:
                daemon.stop()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_restart_costs_a_guest_the_wait_and_nothing_else(folder: Path, number: signal.Signals) -> None:
    """Requests before, during and after the outage are answered."""
    with supervised(folder) as guest:
        guest.ask()
        first = guest.answer()
        guest.end(number)
        guest.ask()
        second = guest.answer()

        assert len({first, second}) == 2
        wait_until(guest.answers, "the next one serves")

        def asked() -> int:
            (found,) = asyncio.run(guest.site.ask("guest.list"))["guests"]
            assert found["connected"] == 1
            return int(found["asked"])

        # the first one twice, if it was answered but not yet removed
        wait_until(lambda: asked() in {1, 2}, "the next one takes what was asked")


@pytest.mark.slow
def test_no_request_is_lost_at_whatever_moment_the_broker_is_killed(folder: Path) -> None:
    """Requests pending at the kill are answered with new bytes."""
    moments = random.Random(4)
    with supervised(folder) as guest:
        pieces = []
        for _ in range(4):
            for _ in range(moments.randrange(20, 60)):
                guest.ask()
                pieces.append(guest.answer())
            guest.ask()
            guest.end(signal.SIGKILL)
            pieces.append(guest.answer())

        assert len(set(pieces)) == len(pieces)


@pytest.mark.slow
def test_what_is_sent_ahead_does_not_grow_with_every_restart(folder: Path) -> None:
    """Restarts do not add to the bytes sent ahead."""
    with supervised(folder, size="") as guest:
        for _ in range(4):
            wait_until(lambda: guest.has(160_000), "there is plenty")
            guest.read_on()
            asyncio.run(guest.site.ask("guest.list"))  # it is no longer sending an answer
            guest.end(signal.SIGKILL)
        wait_until(guest.answers, "the last one serves")
        guest.sock.setblocking(False)
        lying = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                lying += len(guest.sock.recv(65536))

        assert 0 < lying <= 64 * (AHEAD_REQUESTS + 4)


def test_a_new_guest_is_let_in_after_a_restart(folder: Path) -> None:
    """The listening socket outlives the broker and queues connections."""
    with supervised(folder) as guest:
        os.kill(guest.broker, signal.SIGKILL)
        with socket.socket(socket.AF_UNIX) as late:
            late.settimeout(DEADLINE_S)
            late.connect(f"{guest.site.folder}/run/guests/vm1/egd.sock")
            late.sendall(b"\x02\x20")
            assert len(late.recv(32, socket.MSG_WAITALL)) == 32


def test_a_keeper_ends_with_its_broker_when_it_is_stopped(folder: Path) -> None:
    """SIGTERM ends both in order, and the guest's connection."""
    with supervised(folder) as guest:
        child = guest.broker
        assert guest.daemon.stop() == 0
        assert not os.path.exists(f"/proc/{child}")
        guest.until_the_end()


def test_a_keeper_does_not_repeat_what_is_hopeless(folder: Path) -> None:
    """A configuration fault ends the supervisor with that exit code."""
    path = folder / "drawwell.toml"
    path.write_text("[broker]\nnane = 1\n")
    with Daemon("run", "--supervised", config=path, log=folder / "log") as daemon:
        assert daemon.ended() == 78


def test_a_removed_guest_is_not_kept(folder: Path) -> None:
    """guest.remove closes the connection, even a stored one."""
    with supervised(folder) as guest:
        asyncio.run(guest.site.ask("guest.remove", {"name": "vm1"}))
        guest.until_the_end()
        kept = [os.readlink(fd) for fd in Path(f"/proc/{guest.daemon.pid}/fd").iterdir()]
        wait_until(
            lambda: (
                sum(
                    os.readlink(fd).startswith("socket:")
                    for fd in Path(f"/proc/{guest.daemon.pid}/fd").iterdir()
                )
                <= 4
            ),
            f"nothing but its own sockets is left: {kept}",
        )
