"""Virtual machines at the EGD doors of their guests: real QEMU, real kernels, every byte accounted for."""

import asyncio
import contextlib
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
from lab.cache import or_skip
from lab.guest import QemuGuest
from lab.initramfs import Image, tiny
from support.daemon import Daemon, StickThread
from support.station import Site, running

VM = {"name": "vm1", "kind": "qemu", "via": "virtio"}
BLOCK_BYTES = 64
"""What a Linux guest asks for at a time."""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="QEMU is not installed"),
]


@pytest.fixture(scope="module")
def image() -> Image:
    """A kernel with virtio-rng, and a shell."""
    with or_skip():
        return tiny("cloud")


def rng(socket: str, options: str = "") -> list[str]:
    """QEMU's arguments for one generator."""
    return [
        "-chardev", f"socket,id=dw,path={socket},reconnect=1", "-object", "rng-egd,id=dw-egd,chardev=dw",
        "-device", f"virtio-rng-pci,rng=dw-egd,id=dw-rng{options}",
    ]  # fmt: skip


def site_in(folder: Path) -> Site:
    """A broker whose stick is as fast as a guest reads under TCG."""
    return Site(folder, broker='reservoir = "256KiB"')


class Tapped:
    """A broker in a thread of this process that notes what it grants to whom, before any door has it."""

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
        """Pull the stick, or put it back."""
        self._loop.call_soon_threadsafe(self.stick.unplug if pulled else self.stick.replug)


def ask(site: Site, verb: str, arguments: dict[str, Any] | None = None) -> dict[str, Any]:
    return asyncio.run(site.ask(verb, arguments))


def entry(site: Site, name: str = "vm1") -> dict[str, Any]:
    """What guest.list says of one."""
    return next(each for each in ask(site, "guest.list")["guests"] if each["name"] == name)


KERNELS_BLOCKS = 64
"""A guest's kernel takes a block when it boots and one every few seconds, whatever it is told about quality."""


def taken_between(got: bytes, granted: bytes) -> int:
    """How many blocks the guest's kernel took for itself between those that were read.

    Raises ValueError when something was read that was not granted, or in another order, or twice.
    """
    blocks = [granted[at : at + BLOCK_BYTES] for at in range(0, len(granted), BLOCK_BYTES)]
    first = at = blocks.index(got[:BLOCK_BYTES])
    for begin in range(0, len(got), BLOCK_BYTES):
        at = blocks.index(got[begin : begin + BLOCK_BYTES], at) + 1
    return at - first - len(got) // BLOCK_BYTES


def test_a_guest_has_exactly_the_bytes_that_it_was_granted(folder: Path, image: Image) -> None:
    """Two machines read at once: each /dev/hwrng gives what its own account was charged, in order, and no other's."""
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
    """Wait until the reader in the guest has got 1 KiB more."""
    seen = int(machine.check(GOT))
    machine.until(f"test $({GOT}) -ge {seen + 1024}", within_s=DEADLINE_S)


@pytest.fixture
def supervised(folder: Path) -> Iterator[tuple[Site, Daemon]]:
    """A broker under its keeper."""
    site = site_in(folder)
    log = folder / "log"
    with (
        StickThread(folder / "stick", rate=400_000.0),
        Daemon("run", "--supervised", config=site.path, log=log) as daemon,
    ):
        daemon.until_it_says("healthy")
        yield site, daemon
        daemon.send(signal.SIGCONT)
        daemon.stop()


def broker_of(daemon: Daemon) -> int:
    """The process number of the keeper's child, 0 for none."""
    children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
    return int(children[0]) if children else 0


def test_a_restart_of_the_broker_costs_a_guest_only_the_wait(
    supervised: tuple[Site, Daemon], image: Image
) -> None:
    """Killed, ended in order, and away for seconds: a read that was under way goes on, and no driver is bound again.

    QEMU's own period is a day, so that it asks nothing again by itself.
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
        machine.check("sleep 3")  # the guest's clock: the broker is away for so long
        stuck = machine.check(GOT)
        machine.check("sleep 1")
        assert machine.check(GOT) == stuck
        daemon.send(signal.SIGCONT)
        more_arrives(machine)
        assert entry(site)["connected"] == 1


KILLS = 20


@pytest.mark.long
def test_a_broker_that_is_killed_leaves_no_guest_waiting(folder: Path, image: Image) -> None:
    """Killed twenty times without a supervisor, it answers every request that was lost meanwhile, once.

    QEMU's own period is a day, so that it repeats no request. One guest reads on and on, the other now and then.
    """
    site = site_in(folder)
    with StickThread(folder / "stick", rate=400_000.0), contextlib.ExitStack() as machines:
        with Daemon("run", config=site.path, log=folder / "log0") as first:
            first.until_it_says("healthy")
            sockets = [ask(site, "guest.add", {**VM, "name": name})["socket"] for name in ("vm1", "vm2")]
            busy, idle = (
                machines.enter_context(QemuGuest(image, *rng(socket, ",max-bytes=65536000,period=86400000")))
                for socket in sockets
            )
            busy.check(READER)
            more_arrives(busy)
        for number in range(KILLS):
            if number % 5 == 0:
                idle.check("timeout 1 dd if=/dev/hwrng bs=64 count=4 >> /tmp/got 2>/dev/null; true")
            with Daemon("run", config=site.path, log=folder / f"log{number}") as broker:
                broker.until_it_says("healthy")
                more_arrives(busy)
                if number % 5 == 0:
                    idle.check("dd if=/dev/hwrng bs=64 count=4 >> /tmp/got 2>/dev/null", within_s=DEADLINE_S)
                    for name in ("vm1", "vm2"):
                        account = entry(site, name)
                        lost = account["full_bytes"] - account["consumed_bytes"] - account["in_flight_bytes"]
                        assert (account["connected"], lost) == (1, 0), account
        read = [machine.read("cat /tmp/got") for machine in (busy, idle)]
        blocks = [data[at : at + BLOCK_BYTES] for data in read for at in range(0, len(data), BLOCK_BYTES)]
        assert len(set(blocks)) == len(blocks)


def test_a_guest_that_may_have_no_more_waits_and_the_others_do_not(folder: Path, image: Image) -> None:
    """Its quota used up, the machine's read waits until it is raised, and the status says why; its neighbour reads."""
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
    """A read that the reservoir is too empty for ends when noise comes again; nothing else is served instead."""
    with Tapped(folder) as tapped:
        socket = ask(tapped.site, "guest.add", VM)["socket"]
        with QemuGuest(image, *rng(socket)) as machine:
            tapped.plug(pulled=True)
            machine.check(READER)
            wait_until(lambda: "healthy" in entry(tapped.site)["waits"], "it waits")
            wait_until(lambda: entry(tapped.site)["owed_bytes"] >= BLOCK_BYTES, "it is owed what it asked")
            assert taken_between(machine.read("cat /tmp/got"), tapped.granted["vm1"]) <= KERNELS_BLOCKS
            tapped.plug(pulled=False)
            more_arrives(machine)


def test_a_machine_that_reads_all_the_time_is_unplugged_unharmed(folder: Path, image: Image) -> None:
    """guest.settle, then device_del, then guest.remove: QEMU lives, though the guest reads to the last moment."""
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
