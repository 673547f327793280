"""Measure bytes into a virtual machine: virtio-rng, virtual OneRNG.

A real broker serves real QEMU guests, one at a time. The EGD door is compared in the same run
with QEMU's rng-random on a prepared file, and the virtual OneRNG with the 57.5 kB/s of a real
one (57.3 to 59.2 were measured on a V3.0 in cmd0). Without KVM the guests are emulated (TCG)
and use most of the time.
"""

import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # the guest lab

from rig.processes import Server, cpu_s
from rig.report import Report, Samples, arguments, progress
from rig.site import Site

from lab.cache import NoLab
from lab.guest import QemuGuest
from lab.initramfs import Image, tiny

OURS: Final = "drawwell, EGD"
PEER: Final = "rng-random, file"
MODULES: Final = {OURS: "virtio_rng.0", PEER: "virtio_rng.1"}
RESERVOIR: Final = 'reservoir = "8MiB"'
"""Full at the start, so that prepared bytes are compared with prepared bytes."""
FILL_S: Final = 120.0
FIRST: Final = "FIRST-BYTE"
STICK: Final = "drawwell, virtual OneRNG"
READ_STICK: Final = "printf cmd0cmdO >&3; head -c {} <&3 >/dev/null"
"""The commands that the vendor's software sends after opening the terminal."""
REAL: Final = "a real OneRNG"
REAL_KB_S: Final = 57.5
MIB: Final = 2**20


def guest_socket(site: Site, name: str, via: str = "virtio") -> str:
    """Add a guest to the running broker; return its socket."""
    return str(site.ask("guest.add", {"name": name, "kind": "qemu", "via": via})["socket"])


def egd(socket: str) -> list[str]:
    """Return QEMU's arguments for the EGD door."""
    return [
        "-chardev", f"socket,id=dw,path={socket},reconnect=1", "-object", "rng-egd,id=egd,chardev=dw",
        "-device", "virtio-rng-pci,rng=egd",
    ]  # fmt: skip


def ready_file(file: Path) -> list[str]:
    """Return QEMU's arguments for a prepared file."""
    return ["-object", f"rng-random,id=file,filename={file}", "-device", "virtio-rng-pci,rng=file"]


def read_from(guest: QemuGuest, broker: Server, device: str, n_bytes: int) -> Samples:
    """Read `n_bytes` from one of the guest's devices."""
    guest.check(f"echo {device} > /sys/class/misc/hw_random/rng_current")
    blocks = n_bytes // 4096
    command = f"dd if=/dev/hwrng of=/dev/null bs=4096 count={blocks} iflag=fullblock 2>/dev/null"
    return timed(guest, broker, command, n_bytes)


def timed(guest: QemuGuest, broker: Server, command: str, n_bytes: int) -> Samples:
    """Run a command that reads `n_bytes` in the guest."""
    before, qemu_before = cpu_s(broker.pid), cpu_s(guest.process.pid)
    began = time.perf_counter()
    guest.check(command)
    took = time.perf_counter() - began
    megabytes = n_bytes / 1e6
    return {
        "kB/s": n_bytes / took / 1000,
        "broker CPU s/MB": (cpu_s(broker.pid) - before) / megabytes,
        "QEMU CPU s/MB": (cpu_s(guest.process.pid) - qemu_before) / megabytes,
    }


def first_byte(image: Image, arguments: list[str]) -> Samples:
    """Start a guest that immediately reads one byte."""
    began = time.perf_counter()
    with QemuGuest(image, *arguments, agent=False) as guest:
        guest.wait_for(FIRST)
        return {"s": time.perf_counter() - began}


@contextlib.contextmanager
def broker_and_file() -> Iterator[tuple[Site, Server, Path]]:
    """Run a full broker; prepare a file so long that QEMU never reaches EOF."""
    with tempfile.TemporaryDirectory(prefix="dw-bench-") as folder:
        file = Path(folder) / "ready"
        with open("/dev/urandom", "rb") as source:
            file.write_bytes(source.read(64 * MIB))
        site = Site(Path(folder))
        with site.broker(broker=RESERVOIR) as broker:
            site.wait_until_full(within_s=FILL_S)
            yield site, broker, file


def virtio(report: Report, *, rounds: int, n_bytes: int) -> None:
    """Measure the EGD door and rng-random."""
    throughput, start = tiny("cloud"), tiny("cloud", init=f"head -c 1 /dev/hwrng >/dev/null; echo {FIRST}\n")
    with broker_and_file() as (site, broker, file):
        socket = guest_socket(site, "vm1")
        with QemuGuest(throughput, *egd(socket), *ready_file(file)) as guest:
            guest.check("echo 0 > /sys/class/misc/hw_random/rng_quality")
            for number in range(rounds):
                for name, device in MODULES.items():
                    progress(f"{name}, round {number + 1}")
                    report.add("virtio-rng", name, read_from(guest, broker, device, n_bytes))
        for number in range(rounds):
            for name, arguments in ((OURS, egd(socket)), (PEER, ready_file(file))):
                progress(f"first byte, {name}, round {number + 1}")
                report.add("from QEMU's start to the first byte", name, first_byte(start, arguments))
    report.ratio("virtio-rng", OURS, PEER, "kB/s")
    report.ratio("from QEMU's start to the first byte", OURS, PEER, "s")


def usb(report: Report, *, rounds: int, n_bytes: int) -> None:
    """Measure the virtual OneRNG, to compare it with the rate of a real one."""
    image = tiny("full", modules=("xhci_pci", "cdc_acm"))
    with broker_and_file() as (site, broker, _file):
        socket = guest_socket(site, "vm2", "usb-virtual")
        arguments = ["-device", "qemu-xhci", "-chardev", f"socket,id=ur,path={socket},reconnect=1"]
        with QemuGuest(image, *arguments, "-device", "usb-redir,chardev=ur") as guest:
            guest.until("test -c /dev/ttyACM0")
            guest.check("stty -F /dev/ttyACM0 raw -echo && exec 3<>/dev/ttyACM0")
            for number in range(rounds):
                progress(f"{STICK}, round {number + 1}")
                report.add("USB", STICK, timed(guest, broker, READ_STICK.format(n_bytes), n_bytes))
    report.add("USB", REAL, {"kB/s": REAL_KB_S})
    report.ratio("USB", STICK, REAL, "kB/s")


def main() -> None:
    args = arguments(__doc__)
    report = Report("what a virtual machine reads")
    try:
        rounds, n_bytes = (1, 64 * 1024) if args.quick else (7, 512 * 1024)
        virtio(report, rounds=rounds, n_bytes=n_bytes)
        usb(report, rounds=rounds, n_bytes=n_bytes)
    except NoLab as reason:
        report.notes.append(f"no guest can run here: {reason}")
    report.show(as_json=args.json)


if __name__ == "__main__":
    main()
