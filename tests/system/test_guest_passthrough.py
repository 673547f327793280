"""Nested guests: L1 has the stick on its USB bus and passes it to L2.

L1 is a Debian with drawwell and QEMU, L2 a kernel and busybox in that QEMU. The stick is
simulated, by usbredir into L1. QEMU's usb-host, L1's kernel, udev and systemd are real.
"""

import hashlib
from collections.abc import Iterator

import pytest

from drawwell.guests.model import Attachment, Guest, GuestKind
from drawwell.guests.qemu.plan import plan
from lab.cache import or_skip
from lab.debian import debian
from lab.guest import QemuGuest
from lab.initramfs import tiny
from lab.snapshot import Snapshot, snapshot
from support.nested import (
    INSIDE_L2,
    PLACES,
    drawwell,
    reads,
    source,
    stick,
    until_healthy,
    until_l2_lost,
    until_l2_reads,
    wait,
    with_drawwell,
)

pytestmark = [pytest.mark.long, pytest.mark.root]
BY_PORT = plan(Guest(GuestKind.QEMU, "second", Attachment.USB, device="1-2")).pieces[0].text
QEMU = "qemu-system-x86_64 -accel tcg -m 256 -nodefaults -nographic -no-reboot"


@pytest.fixture(scope="module")
def machine() -> Snapshot:
    """Return L1 with a running L2 with the planned arguments for port 2."""
    with or_skip():
        inner = tiny("full", modules=("xhci_pci", "cdc_acm"), init=INSIDE_L2)
        kernel = inner.kernel.unpacked().image

        def prepare(guest: QemuGuest) -> None:
            guest.check("mkdir /root/l2")
            guest.put("/root/l2/vmlinux", kernel)
            guest.put("/root/l2/initrd", inner.initrd)
            start(guest, "l2", BY_PORT, "-kernel", "/root/l2/vmlinux", "-initrd", "/root/l2/initrd")
            wait(guest, "grep -q 'L2 waits' /run/l2.log")

        content = hashlib.sha256(f"{inner.digest}{BY_PORT}{QEMU}".encode()).hexdigest()
        image = debian(packages=("qemu-system-x86", "seabios"))
        return snapshot(image, *PLACES, prepare=prepare, content=content, memory_mib=1024)
    raise AssertionError


def start(guest: QemuGuest, name: str, planned: str, *options: str) -> None:
    """Start a QEMU in L1 with the planned arguments and a QMP socket.

    It needs no system, but must run: QEMU looks for sticks only then.
    """
    qmp = f"-qmp unix:/run/{name}.qmp,server=on,wait=off"
    given = " ".join(options)
    boot = "-append 'console=ttyS0 quiet panic=-1'" if "-kernel" in options else ""
    line = f"{QEMU} -name {name} {qmp} -serial file:/run/{name}.log {given} {boot} {planned.strip()}"
    guest.check(f"setsid {line} >/run/{name}.err 2>&1 & echo $! >/run/{name}.pid")
    guest.until(f"test -S /run/{name}.qmp")


@pytest.fixture(scope="module")
def l1(machine: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[QemuGuest]:
    """Return L1 with drawwell and L2."""
    with with_drawwell(machine, tmp_path_factory.mktemp("drawwell")) as guest:
        yield guest


def test_the_planned_arguments_take_the_stick_at_their_port(l1: QemuGuest) -> None:
    """Of two sticks, L2 gets the one at its port; L1's source keeps the other."""
    before = reads(l1)
    with stick(l1, "one"):
        until_healthy(l1)
        with stick(l1, "two"):
            until_l2_reads(l1, before + 1)
            l1.check("test -c /dev/ttyACM0 && test ! -e /dev/ttyACM1")
            assert source(l1)["state"] == "healthy"
        until_l2_lost(l1, before + 1)


def test_the_stick_is_passed_through_and_taken_back(l1: QemuGuest) -> None:
    """`apply` passes it to L2 and refuses a second QEMU; `--remove` undoes it."""
    before = reads(l1)
    given = ("guest", "apply", "qemu", "whole", "--domain", "l2", "--via", "usb", "--yes")
    with stick(l1):
        until_healthy(l1)
        done = drawwell(l1, *given)
        assert [each["what"].split()[0] for each in done["changes"]] == ["added", "paused", "plugged"], done
        until_l2_reads(l1, before + 1)
        l1.check("test ! -e /dev/ttyACM0")
        wait(l1, "drawwell status --json | grep -q 'was taken by qemu-system'")
        assert source(l1)["state"] == "off"
        again = drawwell(l1, *given)
        assert again["changes"] == []
        assert "the guest is not running" not in again["said"]

        start(l1, "other", "")
        refused = drawwell(l1, "guest", "apply", "qemu", "other", "--via", "usb", "--yes")
        assert refused["exit"] != 0
        assert "is in use by qemu-system-x86 (process" in refused["said"]
        end(l1, "other")

        undone = drawwell(l1, *given, "--remove")
        assert [each["what"].split()[0] for each in undone["changes"]] == ["unplugged", "removed"], undone
        until_healthy(l1)


def end(guest: QemuGuest, name: str, signal: str = "TERM") -> None:
    guest.check(f"kill -{signal} $(cat /run/{name}.pid)")
    guest.until(f"! kill -0 $(cat /run/{name}.pid) 2>/dev/null")


def test_a_second_machine_waits_and_is_found_out(l1: QemuGuest) -> None:
    """`apply` and `audit` name the other of two machines with the plan.

    Both are killed then; `--remove` gives the stick back to the kernel's driver.
    """
    planned = drawwell(l1, "guest", "plan", "qemu", "other", "--via", "usb")["pieces"][0]["text"]
    with stick(l1):
        until_healthy(l1)
        start(l1, "first", planned.replace("drawwell-other", "drawwell-first"))
        l1.until("test ! -e /dev/ttyACM0")
        start(l1, "other", planned)
        refused = drawwell(l1, "guest", "apply", "qemu", "other", "--via", "usb", "--yes")
        assert refused["exit"] != 0, refused
        assert "the stick at 1-1 is also open in qemu-system-x86 (process" in refused["said"]
        facts = {each["name"]: each["findings"] for each in drawwell(l1, "guest", "audit", "qemu")["guests"]}
        verdicts = {
            name: [found["verdict"] for found in each if found["what"] == "the machine has the stick"]
            for name, each in facts.items()
        }
        assert (verdicts["first"], verdicts["other"]) == (["fails"], ["fails"])
        end(l1, "other", "KILL")
        end(l1, "first", "KILL")
        wait(l1, "drawwell status --json | grep -q 'has no node'")
        l1.check("test ! -e /dev/ttyACM0")
        healed = drawwell(l1, "guest", "apply", "qemu", "first", "--via", "usb", "--remove")
        assert "returned the OneRNG at 1-1" in healed["said"], healed
        until_healthy(l1)


def test_the_rule_gives_it_to_the_guest_when_it_is_plugged_in(l1: QemuGuest) -> None:
    """udev runs `apply` at each plug-in; when L2 ends, L1 has it again."""
    before = reads(l1)
    plan_of = drawwell(
        l1, "guest", "plan", "qemu", "whole", "--domain", "l2", "--via", "usb", "--device", "1-1"
    )
    (rule,) = (each for each in plan_of["pieces"] if each["into"].startswith("/etc/udev/rules.d/"))
    l1.put(rule["into"], rule["text"])
    l1.check("udevadm control --reload")
    with stick(l1):
        until_l2_reads(l1, before + 1)
        wait(l1, "drawwell guest list --json | grep -q whole")
    until_l2_lost(l1, before + 1)
    with stick(l1):
        until_l2_reads(l1, before + 2)
        end(l1, "l2")
        until_healthy(l1)
