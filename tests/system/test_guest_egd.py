"""Virtual machines at EGD sockets: real kernels, every byte counted."""

import asyncio
import contextlib
import functools
import os
import shutil
import signal
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from drawwell.broker.account import Account
from drawwell.broker.broker import LocalBroker
from drawwell.doors.qemu_egd.connection import AHEAD_REQUESTS
from drawwell.entropy.blocks import DrawRequest, Grant
from drawwell.simulator.pty import PtyDevice
from drawwell.testing.waiting import DEADLINE_S, wait_until
from lab import trixie
from lab.cache import or_skip
from lab.guest import QEMU, QemuGuest
from lab.initramfs import Image, tiny
from support.daemon import Daemon, StickThread
from support.station import Site, running

VM = {"name": "vm1", "kind": "qemu", "via": "virtio"}
BLOCK_BYTES = 64
"""The request size of a Linux guest."""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="QEMU is not installed"),
]


@pytest.fixture(scope="module")
def image() -> Image:
    """Return a kernel with virtio-rng, and a shell."""
    with or_skip():
        return tiny("cloud")


def rng(socket: str, options: str = "", reconnect: str = "reconnect=1") -> list[str]:
    """Return QEMU's arguments for one generator."""
    return [
        "-chardev", f"socket,id=dw,path={socket},{reconnect}", "-object", "rng-egd,id=dw-egd,chardev=dw",
        "-device", f"virtio-rng-pci,rng=dw-egd,id=dw-rng{options}",
    ]  # fmt: skip


def site_in(folder: Path) -> Site:
    """Return a broker with a stick as fast as a guest under TCG reads."""
    return Site(folder, broker='reservoir = "256KiB"')


class Tapped:
    """A broker in a thread that records grants before doors get them."""

    def __init__(self, folder: Path) -> None:
        self.site = site_in(folder)
        self.granted: dict[str, bytes] = defaultdict(bytes)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(DEADLINE_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _live(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        stick = PtyDevice(self.site.folder / "stick", rate=400_000.0)
        async with stick as self.stick, running(self.site) as process:
            assert process.station is not None
            self._tap(process.station.broker)
            await self.site.until_healthy()
            self._ready.set()
            await self._stop.wait()

    def _tap(self, broker: LocalBroker) -> None:
        grant_of = broker._grant

        def tapped(account: Account, request: DrawRequest) -> Grant:
            grant = grant_of(account, request)
            self.granted[account.name] += grant.data
            return grant

        broker._grant = tapped  # type: ignore[method-assign]

    def plug(self, *, pulled: bool) -> None:
        """Unplug the stick, or plug it in."""
        self._loop.call_soon_threadsafe(self.stick.unplug if pulled else self.stick.replug)


def ask(site: Site, verb: str, arguments: dict[str, Any] | None = None) -> dict[str, Any]:
    return asyncio.run(site.ask(verb, arguments))


def entry(site: Site, name: str = "vm1") -> dict[str, Any]:
    """Return a guest's entry in guest.list."""
    return next(each for each in ask(site, "guest.list")["guests"] if each["name"] == name)


KERNELS_BLOCKS = 64
"""Most blocks that a kernel reads by itself: one at boot and one every few seconds."""


def taken_between(got: bytes, granted: bytes) -> int:
    """Return how many blocks the kernel read between the given ones.

    Raises ValueError if a read block was not granted, is out of order, or comes twice.
    """
    blocks = [granted[at : at + BLOCK_BYTES] for at in range(0, len(granted), BLOCK_BYTES)]
    first = at = blocks.index(got[:BLOCK_BYTES])
    for begin in range(0, len(got), BLOCK_BYTES):
        at = blocks.index(got[begin : begin + BLOCK_BYTES], at) + 1
    return at - first - len(got) // BLOCK_BYTES


def test_a_guest_has_exactly_the_bytes_that_it_was_granted(folder: Path, image: Image) -> None:
    """Two /dev/hwrng, read at once, give exactly the charged bytes."""
    with Tapped(folder) as tapped, contextlib.ExitStack() as machines:
        guests = {}
        for name in ("vm1", "vm2"):
            socket = ask(tapped.site, "guest.add", {**VM, "name": name})["socket"]
            guests[name] = machines.enter_context(QemuGuest(image, *rng(socket)))
        for machine in guests.values():
            machine.check("dd if=/dev/hwrng of=/tmp/got bs=64 count=1024 2>/dev/null &")
        for name, machine in guests.items():
            machine.check("wait", within_s=DEADLINE_S)
            before = len(tapped.granted[name])
            got = machine.read("cat /tmp/got; dd if=/dev/hwrng bs=64 count=16 2>/dev/null")
            found = entry(tapped.site, name)
            granted = tapped.granted[name]

            assert len(got) == 65536 + 1024
            assert taken_between(got, granted) <= KERNELS_BLOCKS
            assert before - 65536 <= BLOCK_BYTES * (KERNELS_BLOCKS + AHEAD_REQUESTS)
            assert found["full_bytes"] == len(granted) == found["consumed_bytes"] + found["in_flight_bytes"]
        pieces = {data[at : at + 16] for data in tapped.granted.values() for at in range(0, len(data), 16)}
        assert len(pieces) == sum(map(len, tapped.granted.values())) // 16


READER = "while dd if=/dev/hwrng bs=64 count=1 2>/dev/null >> /tmp/got; do :; done &"
GOT = "stat -c %s /tmp/got"


def more_arrives(machine: QemuGuest) -> None:
    """Wait until the reader in the guest has another 1 KiB."""
    seen = int(machine.check(GOT))
    machine.until(f"test $({GOT}) -ge {seen + 1024}", within_s=DEADLINE_S)


@pytest.fixture
def supervised(folder: Path) -> Iterator[tuple[Site, Daemon]]:
    """A supervised broker."""
    site = site_in(folder)
    log = folder / "log"
    with (
        StickThread(folder / "stick", rate=400_000.0),
        Daemon("run", "--supervised", config=site.path, log=log) as daemon,
    ):
        daemon.wait_for_text("healthy")
        yield site, daemon
        daemon.send(signal.SIGCONT)
        daemon.stop()


def broker_of(daemon: Daemon) -> int:
    """Return the process ID of the supervisor's child, or 0."""
    children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
    return int(children[0]) if children else 0


def test_a_restart_of_the_broker_costs_a_guest_only_the_wait(
    supervised: tuple[Site, Daemon], image: Image
) -> None:
    """A running read survives kills and pauses, without a new driver.

    QEMU's own period is a day, so it repeats no request by itself.
    """
    site, daemon = supervised
    socket = ask(site, "guest.add", VM)["socket"]
    with QemuGuest(image, *rng(socket, ",max-bytes=65536000,period=86400000")) as machine:
        machine.check(READER)
        more_arrives(machine)
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
            gone = broker_of(daemon)
            os.kill(gone, number)
            wait_until(lambda gone=gone: broker_of(daemon) not in {gone, 0}, "another broker runs")
            more_arrives(machine)

        daemon.send(signal.SIGSTOP)
        os.kill(broker_of(daemon), signal.SIGKILL)
        machine.check("sleep 3")  # the guest's clock: the broker is down this long
        stuck = machine.check(GOT)
        machine.check("sleep 1")
        assert machine.check(GOT) == stuck
        daemon.send(signal.SIGCONT)
        more_arrives(machine)
        assert entry(site)["connected"] == 1


KILLS = 20


def nothing_lost(site: Site, name: str) -> bool:
    """Return whether the guest consumed all that it was granted.

    A grant may be on its way to the socket, so this can be untrue for a moment.
    """
    account = entry(site, name)
    lost_bytes = account["full_bytes"] - account["consumed_bytes"] - account["in_flight_bytes"]
    return account["connected"] == 1 and lost_bytes == 0


@pytest.mark.long
@pytest.mark.parametrize("release", ["bookworm", pytest.param("trixie", marks=pytest.mark.root)])
def test_a_broker_that_is_killed_leaves_no_guest_waiting(folder: Path, image: Image, release: str) -> None:
    """After twenty kills every lost request was answered exactly once.

    QEMU's period is a day, so it repeats no request. One guest always reads, one sometimes.
    """
    site, program, reconnect = site_in(folder), (QEMU,), "reconnect=1"
    if release == "trixie":
        with or_skip():
            program, reconnect = trixie.qemu(), "reconnect-ms=1000"
    endless = ",max-bytes=65536000,period=86400000"
    with StickThread(folder / "stick", rate=400_000.0), contextlib.ExitStack() as machines:
        with Daemon("run", config=site.path, log=folder / "log0") as first:
            first.wait_for_text("healthy")
            sockets = [ask(site, "guest.add", {**VM, "name": name})["socket"] for name in ("vm1", "vm2")]
            busy, idle = (
                machines.enter_context(QemuGuest(image, *rng(socket, endless, reconnect), program=program))
                for socket in sockets
            )
            busy.check(READER)
            more_arrives(busy)
        for number in range(KILLS):
            if number % 5 == 0:
                idle.check("timeout 1 dd if=/dev/hwrng bs=64 count=4 >> /tmp/got 2>/dev/null; true")
            with Daemon("run", config=site.path, log=folder / f"log{number}") as broker:
                broker.wait_for_text("healthy")
                more_arrives(busy)
                if number % 5 == 0:
                    idle.check("dd if=/dev/hwrng bs=64 count=4 >> /tmp/got 2>/dev/null", within_s=DEADLINE_S)
                    for name in ("vm1", "vm2"):
                        wait_until(functools.partial(nothing_lost, site, name), f"{name} lost nothing")
        read = [machine.read("cat /tmp/got") for machine in (busy, idle)]
        blocks = [data[at : at + BLOCK_BYTES] for data in read for at in range(0, len(data), BLOCK_BYTES)]
        assert len(set(blocks)) == len(blocks)


def test_a_guest_without_quota_waits_and_the_others_do_not(folder: Path, image: Image) -> None:
    """A guest over its quota waits, and status shows why; others can read."""
    with Tapped(folder) as tapped:
        poor = ask(tapped.site, "guest.add", {**VM, "quota": "1KiB/week"})["socket"]
        rich = ask(tapped.site, "guest.add", {**VM, "name": "vm2"})["socket"]
        with QemuGuest(image, *rng(poor)) as waiting, QemuGuest(image, *rng(rich)) as other:
            for machine in (waiting, other):
                machine.check("dd if=/dev/hwrng of=/tmp/got bs=64 count=64 2>/dev/null &")
            other.check("wait", within_s=DEADLINE_S)
            assert other.check(GOT) == "4096"
            wait_until(lambda: "quota" in entry(tapped.site)["waits"], "it waits")
            notes = ask(tapped.site, "status")["notes"]
            assert entry(tapped.site)["full_bytes"] == 1024
            assert any("guest vm1 waits: quota of 1KiB/week is used up" in note for note in notes)
            waiting.check(f"test $({GOT}) -lt 1024")
            ask(tapped.site, "guest.add", {**VM, "quota": "none"})
            waiting.check("wait", within_s=DEADLINE_S)
            assert waiting.check(GOT) == "4096"


def test_a_guest_waits_while_the_stick_is_away(folder: Path, image: Image) -> None:
    """A read waits for noise while the reservoir is empty."""
    with Tapped(folder) as tapped:
        socket = ask(tapped.site, "guest.add", VM)["socket"]
        with QemuGuest(image, *rng(socket)) as machine:
            tapped.plug(pulled=True)
            machine.check(READER)
            wait_until(lambda: "healthy" in entry(tapped.site)["waits"], "it waits")
            wait_until(lambda: entry(tapped.site)["owed_bytes"] >= BLOCK_BYTES, "its request is pending")
            assert taken_between(machine.read("cat /tmp/got"), tapped.granted["vm1"]) <= KERNELS_BLOCKS
            tapped.plug(pulled=False)
            more_arrives(machine)


def test_a_machine_that_reads_all_the_time_is_unplugged_unharmed(folder: Path, image: Image) -> None:
    """After guest.settle, device_del and guest.remove, QEMU still runs."""
    with Tapped(folder) as tapped:
        socket = ask(tapped.site, "guest.add", {**VM, "rate": "1KiB/s"})["socket"]
        with QemuGuest(image, *rng(socket, ",max-bytes=1024,period=1000")) as machine:
            machine.check(READER)
            more_arrives(machine)
            assert (
                ask(tapped.site, "guest.settle", {"name": "vm1", "timeout_s": DEADLINE_S})["owed_bytes"] == 0
            )
            machine.qmp("device_del", id="dw-rng")
            machine.monitor.wait_event("DEVICE_DELETED")
            machine.qmp("object-del", id="dw-egd")
            machine.qmp("chardev-remove", id="dw")
            ask(tapped.site, "guest.remove", {"name": "vm1", "timeout_s": DEADLINE_S})

            assert machine.check("echo alive").strip() == "alive"
            assert machine.process.poll() is None
