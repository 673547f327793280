"""The real thing, nested: a guest (L1) that has the stick on its own USB bus gives it to a guest of its own (L2).

L1 is a Debian with drawwell and QEMU, L2 a kernel with a busybox in that QEMU; the stick is the simulated one, by
usbredir into L1. QEMU's usb-host, L1's kernel drivers, udev and systemd are real ones.
"""

import contextlib
import hashlib
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drawwell.guests.model import Attachment, Guest, GuestKind
from drawwell.guests.qemu.plan import plan
from drawwell.simulator.firmware_image import export_public_key
from lab.cache import or_skip
from lab.debian import debian
from lab.guest import QemuGuest
from lab.initramfs import tiny
from lab.snapshot import Snapshot, snapshot

pytestmark = [pytest.mark.long, pytest.mark.root]
SOURCE = Path(__file__).resolve().parents[2] / "src"
PLACES = (
    *("-device", "qemu-xhci"),
    *("-chardev", "socket,id=one,path={run}/one,server=on,wait=off", "-device", "usb-redir,chardev=one"),
    *("-chardev", "socket,id=two,path={run}/two,server=on,wait=off", "-device", "usb-redir,chardev=two"),
)
"""Two ports of L1."""
PORTS = {"one": "1-1", "two": "1-2"}
"""What the kernel in there calls them."""
INSIDE_L2 = """echo "L2 waits"
n=0
while :; do
    until test -c /dev/ttyACM0; do sleep 1; done
    n=$((n + 1))
    stty -F /dev/ttyACM0 raw -echo
    exec 3<>/dev/ttyACM0
    printf cmdO >&3
    usb=$(cat $(dirname $(grep -l 6086 /sys/bus/usb/devices/*/idProduct))/idVendor)
    echo "L2 reads $n $usb:6086 $(head -c 32 <&3 | hexdump -v -e '1/1 "%02x"')"
    exec 3>&-
    while test -c /dev/ttyACM0; do sleep 1; done
    echo "L2 lost $n"
done
"""
CONFIG = '[kernel]\nfeed = false\n[[source]]\nname = "stick"\npath = "auto"\nfirmware_key = "/etc/drawwell/key.asc"\n'
LONG_S = 600.0
"""A step in a guest of a guest, on a loaded machine."""
BY_PORT = plan(Guest(GuestKind.QEMU, "second", Attachment.USB, device="1-2")).pieces[0].text
QEMU = "qemu-system-x86_64 -accel tcg -m 256 -nodefaults -nographic -no-reboot"


@pytest.fixture(scope="module")
def machine() -> Snapshot:
    """L1, in which an L2 was booted that has the planned arguments for the stick in the second port."""
    with or_skip():
        inner = tiny("full", modules=("xhci_pci", "cdc_acm"), init=INSIDE_L2)

        def prepare(guest: QemuGuest) -> None:
            guest.check("mkdir /root/l2")
            guest.put("/root/l2/vmlinuz", inner.kernel.image)
            guest.put("/root/l2/initrd", inner.initrd)
            start(guest, "l2", BY_PORT, "-kernel", "/root/l2/vmlinuz", "-initrd", "/root/l2/initrd")
            guest.until("grep -q 'L2 waits' /run/l2.log", within_s=LONG_S)

        content = hashlib.sha256(f"{inner.digest}{BY_PORT}{QEMU}".encode()).hexdigest()
        image = debian(packages=("qemu-system-x86", "seabios"))
        return snapshot(image, *PLACES, prepare=prepare, content=content, memory_mib=1024)
    raise AssertionError


def start(guest: QemuGuest, name: str, planned: str, *options: str) -> None:
    """Have L1 start a QEMU: with what was planned pasted into the command line, and a QMP socket.

    It need not have a system to take a stick, but must run: QEMU looks for sticks only then.
    """
    qmp = f"-qmp unix:/run/{name}.qmp,server=on,wait=off"
    told = " ".join(options)
    boot = "-append 'console=ttyS0 quiet panic=-1'" if "-kernel" in options else ""
    line = f"{QEMU} -name {name} {qmp} -serial file:/run/{name}.log {told} {boot} {planned.strip()}"
    guest.check(f"setsid {line} >/run/{name}.err 2>&1 & echo $! >/run/{name}.pid")
    guest.until(f"test -S /run/{name}.qmp")


@pytest.fixture(scope="module")
def l1(machine: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[QemuGuest]:
    """L1 with this drawwell, whose broker runs and waits for a stick; L2 runs in it."""
    archive = tmp_path_factory.mktemp("drawwell") / "drawwell.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(SOURCE / "drawwell", "drawwell")  # compiled: the guest is slow
    with QemuGuest(machine) as guest:
        guest.put("/tmp/drawwell.tar", archive)
        guest.check("mkdir -p /opt/d /etc/drawwell && tar xf /tmp/drawwell.tar -C /opt/d")
        guest.put("/usr/local/bin/drawwell", '#!/bin/sh\nPYTHONPATH=/opt/d exec python3 -m drawwell "$@"\n')
        guest.put("/etc/drawwell/key.asc", export_public_key())
        guest.put("/etc/drawwell/drawwell.toml", CONFIG)
        guest.check("chmod 755 /usr/local/bin/drawwell")
        guest.check("setsid drawwell run >/run/well.log 2>&1 &")
        guest.until("drawwell status >/dev/null 2>&1; test $? -le 1", within_s=LONG_S)
        yield guest


@contextlib.contextmanager
def stick(guest: QemuGuest, port: str = "one") -> Iterator[subprocess.Popen[str]]:
    """A stick in one of L1's ports; pulled out at the end."""
    words = [
        sys.executable,
        "-m",
        "drawwell",
        "source",
        "simulate",
        "--quiet",
        "--rate",
        "20000",
        "--usbredir",
    ]
    with subprocess.Popen([*words, str(guest.run_dir / port)], stdin=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()
    guest.until(f"! test -e /sys/bus/usb/devices/{PORTS[port]}/idProduct")
    if port == "one":  # while somebody has the node open, the next stick gets another number
        guest.until("! find /proc/[0-9]*/fd -lname '/dev/ttyACM*' 2>/dev/null | grep -q .", within_s=LONG_S)


def drawwell(guest: QemuGuest, *words: str) -> dict[str, Any]:
    """What drawwell in L1 says as JSON; `exit` is its exit code."""
    ran = guest.run(f"drawwell {' '.join(words)} --json 2>&1", within_s=LONG_S)
    at = ran.output.find("{")
    said = json.JSONDecoder().raw_decode(ran.output, at)[0] if at >= 0 else {}
    return {**said, "exit": ran.status, "said": ran.output}


def source(guest: QemuGuest) -> dict[str, Any]:
    (found,) = drawwell(guest, "status")["sources"]
    return dict(found)


def until_healthy(guest: QemuGuest) -> None:
    guest.until("drawwell status --json | grep -q '\"healthy_sources\": 1'", within_s=LONG_S)
    report = source(guest)
    assert (report["state"], report["paused"], report["last_error"]) == ("healthy", False, "")
    assert report["identity"]["path"] == "/dev/ttyACM0", "its node has the number that it had"


def reads(guest: QemuGuest) -> int:
    """How often L2 has read from a stick of its own so far."""
    return int(guest.run("grep -c 'L2 reads' /run/l2.log").output)


def until_l2_reads(guest: QemuGuest, number: int) -> None:
    """Wait until L2's own driver made a node, and bytes came from it."""
    line = guest.until(
        f"grep -a 'L2 reads {number} ' /run/l2.log | grep -E ' [0-9a-f]{{64}}'", within_s=LONG_S
    )
    assert line.split()[3] == "1d50:6086"
    assert len(set(bytes.fromhex(line.split()[4]))) > 8, "they are noise"


def until_l2_lost(guest: QemuGuest, number: int) -> None:
    """Wait until its node is gone in L2."""
    guest.until(f"grep -q 'L2 lost {number}' /run/l2.log", within_s=LONG_S)


def test_the_planned_arguments_take_the_stick_at_their_port(l1: QemuGuest) -> None:
    """Of two sticks L2 gets the one at its port, and L1's own source keeps the other."""
    before = reads(l1)
    with stick(l1, "one"):
        until_healthy(l1)
        with stick(l1, "two"):
            until_l2_reads(l1, before + 1)
            l1.check("test -c /dev/ttyACM0 && test ! -e /dev/ttyACM1")
            assert source(l1)["state"] == "healthy"
        until_l2_lost(l1, before + 1)


def test_the_stick_is_given_away_and_taken_back(l1: QemuGuest) -> None:
    """`apply` releases it and plugs it into L2, L1 says who has it, a second QEMU is told; `--remove` heals."""
    before = reads(l1)
    given = ("guest", "apply", "qemu", "whole", "--domain", "l2", "--via", "usb", "--yes")
    with stick(l1):
        until_healthy(l1)
        done = drawwell(l1, *given)
        assert [each["what"].split()[0] for each in done["changes"]] == ["added", "paused", "plugged"], done
        until_l2_reads(l1, before + 1)
        l1.check("test ! -e /dev/ttyACM0")
        l1.until("drawwell status --json | grep -q 'was taken by qemu-system'", within_s=LONG_S)
        assert source(l1)["state"] == "off"
        again = drawwell(l1, *given)
        assert again["changes"] == []
        assert "nothing runs here" not in again["said"]

        start(l1, "other", "")
        refused = drawwell(l1, "guest", "apply", "qemu", "other", "--via", "usb", "--yes")
        assert refused["exit"] != 0
        assert "was taken by qemu-system-x86 (process" in refused["said"]
        end(l1, "other")

        undone = drawwell(l1, *given, "--remove")
        assert [each["what"].split()[0] for each in undone["changes"]] == ["unplugged", "removed"], undone
        until_healthy(l1)


def end(guest: QemuGuest, name: str, signal: str = "TERM") -> None:
    guest.check(f"kill -{signal} $(cat /run/{name}.pid)")
    guest.until(f"! kill -0 $(cat /run/{name}.pid) 2>/dev/null")


def test_a_second_machine_waits_and_is_found_out(l1: QemuGuest) -> None:
    """One that was started with the plan's arguments beside another: `apply` and `audit` name the other.

    Both are killed then, and give nothing back; `--remove` has the kernel's driver take it again.
    """
    planned = drawwell(l1, "guest", "plan", "qemu", "other", "--via", "usb")["pieces"][0]["text"]
    with stick(l1):
        until_healthy(l1)
        start(l1, "first", planned.replace("drawwell-other", "drawwell-first"))
        l1.until("test ! -e /dev/ttyACM0")
        start(l1, "other", planned)
        refused = drawwell(l1, "guest", "apply", "qemu", "other", "--via", "usb", "--yes")
        assert refused["exit"] != 0, refused
        assert "the stick at 1-1 is open in qemu-system-x86 (process" in refused["said"]
        facts = {each["name"]: each["findings"] for each in drawwell(l1, "guest", "audit", "qemu")["guests"]}
        verdicts = {
            name: [found["verdict"] for found in each if found["what"] == "it has the stick"]
            for name, each in facts.items()
        }
        assert (verdicts["first"], verdicts["other"]) == (["fails"], ["fails"])
        end(l1, "other", "KILL")
        end(l1, "first", "KILL")
        l1.until("drawwell status --json | grep -q 'has no node'", within_s=LONG_S)
        l1.check("test ! -e /dev/ttyACM0")
        mended = drawwell(l1, "guest", "apply", "qemu", "first", "--via", "usb", "--remove")
        assert "gave the stick at 1-1 back" in mended["said"], mended
        until_healthy(l1)


def test_the_rule_gives_it_to_the_guest_when_it_is_plugged_in(l1: QemuGuest) -> None:
    """udev has `apply` plug it into L2 by QMP, at each plugging; when L2 ends, it is L1's again by itself."""
    before = reads(l1)
    plan_of = drawwell(
        l1, "guest", "plan", "qemu", "whole", "--domain", "l2", "--via", "usb", "--device", "1-1"
    )
    (rule,) = (each for each in plan_of["pieces"] if each["into"].startswith("/etc/udev/rules.d/"))
    l1.put(rule["into"], rule["text"])
    l1.check("udevadm control --reload")
    with stick(l1):
        until_l2_reads(l1, before + 1)
        l1.until("drawwell guest list --json | grep -q whole", within_s=LONG_S)
    until_l2_lost(l1, before + 1)
    with stick(l1):
        until_l2_reads(l1, before + 2)
        end(l1, "l2")
        until_healthy(l1)
