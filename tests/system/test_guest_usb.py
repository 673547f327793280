"""The virtual and the simulated OneRNG in real guests, over usbredir.

The guest is Debian's kernel with its cdc_acm; tests read its /dev/ttyACM0.
"""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from drawwell.authorisation import Principal
from drawwell.broker.account import Terms
from drawwell.broker.broker import Rules
from drawwell.doors.usb import UsbDoor
from drawwell.entropy.blocks import DrawClass, DrawRequest, Grant
from drawwell.onerng.usb import virtual_id
from drawwell.onerng.verify import SIMULATOR, verify_dump
from drawwell.reports import Firmware
from lab.cache import or_skip
from lab.debian import debian
from lab.guest import QemuGuest
from lab.initramfs import tiny
from lab.snapshot import Snapshot, snapshot
from support.serving import serving
from support.workbench import Workbench

SOURCE = Path(__file__).resolve().parents[2] / "src"
USB = (
    *("-device", "qemu-xhci"),
    *(
        "-chardev",
        "socket,id=virtual,path={run}/usb.sock,reconnect=1",
        "-device",
        "usb-redir,chardev=virtual",
    ),
    *("-chardev", "socket,id=one,path={run}/one,server=on,wait=off", "-device", "usb-redir,chardev=one"),
    *("-chardev", "socket,id=two,path={run}/two,server=on,wait=off", "-device", "usb-redir,chardev=two"),
)
OPEN = "stty -F /dev/ttyACM0 raw -echo && exec 3<>/dev/ttyACM0"
DUMP_BYTES = 262_157


@pytest.fixture(scope="module")
def machine() -> Snapshot:
    """Return a guest with USB and ports for three sticks."""
    with or_skip():
        return snapshot(tiny("full", modules=("xhci_pci", "cdc_acm")), *USB)


class Well:
    """A broker in a thread with recorded grants, and the guests' doors."""

    def __init__(self) -> None:
        self.granted: dict[str, bytes] = {}
        self.doors: dict[str, UsbDoor] = {}
        self._terms = Terms(frozenset(DrawClass), None, None)
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()

    def door(self, guest: QemuGuest, name: str) -> UsbDoor:
        door = UsbDoor(str(guest.run_dir / "usb.sock"), SimpleNamespace(draw=self.draw), name, DrawClass.FULL)
        self.doors[name] = door
        return door

    async def draw(self, principal: Principal, request: DrawRequest) -> Grant:
        grant = await self._bench.broker.draw(principal, request)
        self.granted[principal.name] = self.granted.get(principal.name, b"") + grant.data
        return grant

    def full_bytes(self, name: str) -> int:
        """Return the account's granted bytes."""
        report = self._bench.broker.consumer_report(name)
        return asyncio.run_coroutine_threadsafe(report, self._loop).result(30).full_bytes

    def tell(self, call):
        """Run a function in the broker's thread; return its result."""

        async def made():
            return call()

        return asyncio.run_coroutine_threadsafe(made(), self._loop).result(30)

    @contextlib.contextmanager
    def serving(self, size: int = 120_000) -> Iterator[None]:
        async def make() -> Workbench:
            terms = dict.fromkeys(self.doors, self._terms)
            return Workbench(rules=Rules("well", min_sources=0), terms=terms)

        async def live() -> None:
            async with self._bench.run(), serving(*self.doors.values()):
                self._bench.put(os.urandom(size))
                await self._stop.wait()

        self._bench = self._loop.run_until_complete(make())
        thread = threading.Thread(target=self._loop.run_until_complete, args=(live(),))
        thread.start()
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(self._stop.set)
            thread.join(30)
            self._loop.close()


def test_the_guest_reads_exactly_what_it_was_granted(machine: Snapshot) -> None:
    """The bytes at /dev/ttyACM0 are exactly the granted ones."""
    well = Well()
    with QemuGuest(machine) as guest:
        well.door(guest, "guest1")
        with well.serving():
            guest.until("test -c /dev/ttyACM0")
            names = guest.check(
                "cd /sys/bus/usb/devices; grep -l drawwell */product | xargs dirname | head -1"
            )
            assert guest.check(f"cat /sys/bus/usb/devices/{names}/product") == "drawwell virtual OneRNG"
            assert guest.check(f"cat /sys/bus/usb/devices/{names}/serial") == virtual_id("guest1")
            guest.check(OPEN)
            assert well.granted == {}, "it is paused: nothing is drawn"

            read = guest.read("printf cmdO >&3; head -c 20000 <&3")

            granted = well.granted["guest1"]
            assert read == granted[:20000]
            assert well.full_bytes("guest1") == len(granted)
            assert len(granted) - 20000 <= 2 * 65_536, "the guest's own terminal holds the rest"


def test_pause_and_dtr_stop_the_drawing(machine: Snapshot) -> None:
    """cmdo or a close stops draws; cmd1 and cmdX fail; cmd0 resumes."""
    well = Well()
    with QemuGuest(machine) as guest:
        door = well.door(guest, "guest1")
        with well.serving():
            guest.until("test -c /dev/ttyACM0")
            guest.check(OPEN)
            guest.check(
                "printf cmdO >&3; head -c 1000 <&3 >/dev/null; printf cmdo >&3; stty -F /dev/ttyACM0 57600"
            )
            drawn = well.full_bytes("guest1")
            # a control transfer arrives after all earlier data
            guest.check("timeout 1 cat <&3 >/dev/null; stty -F /dev/ttyACM0 9600")
            assert well.full_bytes("guest1") == drawn, "it is paused"

            guest.check("printf cmd1cmdO >&3; stty -F /dev/ttyACM0 57600; timeout 1 cat <&3 >/dev/null; true")
            assert (well.full_bytes("guest1"), door.refusals) == (drawn, 1), "there is no raw noise"
            assert b"no firmware to verify" in guest.read("printf cmdX >&3; head -n 2 <&3")
            guest.check("printf cmd4cmd0 >&3; head -c 1000 <&3 >/dev/null; exec 3>&-")
            drawn = well.full_bytes("guest1")
            guest.check("sync; test -c /dev/ttyACM0")
            assert well.full_bytes("guest1") == drawn > 2000, "the terminal is closed"
            guest.check(f"{OPEN}; head -c 1000 <&3 >/dev/null")
            assert well.full_bytes("guest1") > drawn, "it is still running"


def test_two_guests_get_bytes_of_their_own(machine: Snapshot) -> None:
    """Two guests with one reservoir each read only their own grants."""
    well = Well()
    with QemuGuest(machine) as first, QemuGuest(machine) as second:
        guests = {"guest1": first, "guest2": second}
        for name, guest in guests.items():
            well.door(guest, name)
        with well.serving():
            read = {}
            for name, guest in guests.items():
                guest.until("test -c /dev/ttyACM0")
                read[name] = guest.read(f"{OPEN}; printf cmdO >&3; head -c 8192 <&3")
            assert all(read[name] == well.granted[name][:8192] for name in guests)
            pieces = [data[at : at + 16] for data in read.values() for at in range(0, 8192, 16)]
            assert len(set(pieces)) == len(pieces)


def test_the_host_pulls_the_stick_out_and_puts_it_in_again(machine: Snapshot) -> None:
    """The node disappears with stick or broker, and returns with it."""
    well = Well()
    with QemuGuest(machine) as guest:
        door = well.door(guest, "guest1")
        with well.serving():
            guest.until("test -c /dev/ttyACM0")
            well.tell(door.unplug)
            guest.until("! test -c /dev/ttyACM0")
            well.tell(door.replug)
            guest.until("test -c /dev/ttyACM0")
            assert len(guest.read(f"{OPEN}; printf cmdO >&3; head -c 64 <&3; exec 3>&-")) == 64
        guest.until("! test -c /dev/ttyACM0")
        again = Well()
        again.door(guest, "guest1")
        with again.serving():
            guest.until("test -c /dev/ttyACM0")
            assert len(guest.read(f"{OPEN}; printf cmdO >&3; head -c 64 <&3")) == 64


# ---- the simulated device, image and all


@contextlib.contextmanager
def simulated(socket: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Plug a simulated stick into a guest's usb-redir socket."""
    command = [sys.executable, "-m", "drawwell", "source", "simulate", "--usbredir", str(socket), *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as stick:
        try:
            yield stick
        finally:
            stick.kill()


def tell(stick: subprocess.Popen[str], line: str) -> None:
    assert stick.stdin is not None
    stick.stdin.write(f"{line}\n")
    stick.stdin.flush()


def dump(guest: QemuGuest) -> bytes:
    """Make the guest read the image, like the vendor's program."""
    guest.check(
        f"{OPEN}; printf cmd4cmdwcmdXcmdO >&3; head -c {DUMP_BYTES} <&3 >/tmp/image; printf cmdo >&3; exec 3>&-"
    )
    return guest.read("cat /tmp/image")


def test_a_simulated_stick_is_a_onerng_with_its_image(machine: Snapshot) -> None:
    """The guest sees the real IDs; the public test key signed the image."""
    with QemuGuest(machine) as guest, simulated(guest.run_dir / "one"):
        guest.until("test -c /dev/ttyACM0")
        texts = guest.check("cd /sys/bus/usb/devices; cat $(dirname $(grep -l 6086 */idProduct))/product")
        assert texts == "00"
        verdict = verify_dump(dump(guest), SIMULATOR)

    assert (verdict.outcome, verdict.version) == (Firmware.VERIFIED, 3)


def test_bad_firmware_is_seen_in_the_guest(machine: Snapshot) -> None:
    """The guest detects one changed byte in the image."""
    with QemuGuest(machine) as guest, simulated(guest.run_dir / "one", "--fault", "bad-firmware"):
        guest.until("test -c /dev/ttyACM0")
        verdict = verify_dump(dump(guest), SIMULATOR)

    assert verdict.outcome is Firmware.NOT_VERIFIED


def test_sticks_are_plugged_in_and_out(machine: Snapshot) -> None:
    """Commands unplug and replug a stick; a second stick is a second node."""
    with QemuGuest(machine) as guest:
        with simulated(guest.run_dir / "one") as stick:
            guest.until("test -c /dev/ttyACM0")
            tell(stick, "unplug")
            guest.until("! test -c /dev/ttyACM0")
            tell(stick, "replug")
            guest.until("test -c /dev/ttyACM0")
            with simulated(guest.run_dir / "two"):
                guest.until("test -c /dev/ttyACM1")
            guest.until("! test -c /dev/ttyACM1")
        guest.until("! test -c /dev/ttyACM0")


def test_a_socket_without_qemu_is_an_error(tmp_path: Path) -> None:
    """Without a guest it prints how to start one, and exits."""
    command = [sys.executable, "-m", "drawwell", "source", "simulate", "--usbredir", str(tmp_path / "absent")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 64
    assert "no QEMU listens on" in done.stderr
    assert "usb-redir" in done.stderr


# ---- drawwell in the guest


@pytest.fixture(scope="module")
def debian_machine() -> Snapshot:
    """Return a Debian guest with the same ports."""
    with or_skip():
        return snapshot(debian(), *USB)


def install(guest: QemuGuest, folder: Path) -> None:
    """Put this drawwell into the guest; `drawwell` runs it."""
    archive = folder / "drawwell.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(
            SOURCE / "drawwell", "drawwell", filter=lambda each: None if "__pycache__" in each.name else each
        )
    guest.put("/tmp/drawwell.tar", archive)
    guest.check("mkdir /opt/d && tar xf /tmp/drawwell.tar -C /opt/d")
    guest.put("/usr/local/bin/drawwell", '#!/bin/sh\nPYTHONPATH=/opt/d exec python3 -m drawwell "$@"\n')
    guest.check("chmod 755 /usr/local/bin/drawwell")


@pytest.mark.slow
def test_drawwell_in_a_guest_knows_a_virtual_onerng(debian_machine: Snapshot, tmp_path: Path) -> None:
    """drawwell recognises the stick, and does not count its bytes as noise."""
    well = Well()
    with QemuGuest(debian_machine) as guest:
        install(guest, tmp_path)
        door = well.door(guest, "guest1")
        with well.serving():
            guest.until("test -c /dev/ttyACM0")
            found = json.loads(guest.check("drawwell source list --json 2>/dev/null"))["devices"]
            assert [each["product"] for each in found] == ["drawwell virtual OneRNG"]
            report = json.loads(guest.check("drawwell source verify /dev/ttyACM0 --json 2>/dev/null"))
            verify = json.loads(guest.check("drawwell onerng verify /dev/ttyACM0 --json 2>/dev/null || true"))

    identity = report["identity"]
    assert identity["firmware"] == verify["outcome"] == Firmware.NOT_APPLICABLE
    assert identity["noise"] == "bytes from a broker, not a noise source"
    assert identity["hardware_id"] == virtual_id("guest1")
    assert report["state"] == "healthy"
    assert door.refusals == 0, "cmdX and raw noise were never asked for"
