"""Nested guests: L1 has the stick on its USB bus; its libvirt passes it.

L1 is a Debian with drawwell and libvirt, L2 a kernel and busybox in a domain. The stick is
simulated, by usbredir into L1. libvirt, QEMU's usb-host, and L1's kernel and udev are real.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest

from lab.accel import accelerator
from lab.cache import or_skip
from lab.debian import debian
from lab.guest import QemuGuest
from lab.initramfs import tiny
from lab.snapshot import Snapshot, snapshot
from support.nested import (
    INSIDE_L2,
    LONG_S,
    PLACES,
    drawwell,
    reads,
    stick,
    until_healthy,
    until_l2_lost,
    until_l2_reads,
    wait,
    with_drawwell,
)

pytestmark = [pytest.mark.long, pytest.mark.root]
IMAGES = "/var/lib/libvirt/images"
OWN_STICK = (
    "<hostdev mode='subsystem' type='usb' managed='yes'>"
    "<source startupPolicy='optional'><vendor id='0x1d50'/><product id='0x6086'/></source></hostdev>"
)
"""An owner's own passthrough of the real stick."""
DOMAIN = f"""<domain type='qemu'>
  <name>l2</name><memory unit='MiB'>128</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{IMAGES}/vmlinux</kernel><initrd>{IMAGES}/initrd</initrd>
    <cmdline>console=ttyS0 quiet panic=-1 no_timer_check</cmdline></os>
  <on_poweroff>destroy</on_poweroff><on_reboot>destroy</on_reboot><on_crash>destroy</on_crash>
  <devices>
    <controller type='usb' model='qemu-xhci'/>
    <serial type='file'><source path='/run/l2.log'/></serial>
    <memballoon model='none'/>
    {{devices}}
  </devices>
</domain>
"""
APPLY = ("guest", "apply", "libvirt", "l2", "--via", "usb", "--yes")


def clock() -> tuple[str, ...]:
    """Return QEMU's arguments for a clock of L1 that counts instructions.

    Then L1 and L2 get no more timer interrupts per instruction on a loaded host.
    """
    return ("-icount", "shift=1") if accelerator() == "tcg" else ()


@pytest.fixture(scope="module")
def machine() -> Snapshot:
    """Return L1 with the running domain l2, which has no stick."""
    with or_skip():
        inner = tiny("full", modules=("xhci_pci", "cdc_acm"), init=INSIDE_L2)
        kernel = inner.kernel.unpacked().image

        def prepare(guest: QemuGuest) -> None:
            guest.put(f"{IMAGES}/vmlinux", kernel)
            guest.put(f"{IMAGES}/initrd", inner.initrd)
            start(guest)
            wait(guest, "grep -q 'L2 waits' /run/l2.log")

        content = hashlib.sha256(f"{inner.digest}{DOMAIN}".encode()).hexdigest()
        image = debian(packages=("qemu-system-x86", "seabios", "libvirt-daemon-system", "libvirt-clients"))
        return snapshot(image, *PLACES, *clock(), prepare=prepare, content=content, memory_mib=1024)
    raise AssertionError


def start(guest: QemuGuest, devices: str = "") -> None:
    """Define the domain l2 in L1's libvirt, and start it."""
    guest.put("/root/l2.xml", DOMAIN.format(devices=devices))
    guest.check("virsh define /root/l2.xml && virsh start l2", within_s=LONG_S)


@pytest.fixture(scope="module")
def l1(machine: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[QemuGuest]:
    """Return L1 with drawwell and L2."""
    with with_drawwell(machine, tmp_path_factory.mktemp("drawwell")) as guest:
        yield guest


def changes(done: dict[str, Any]) -> list[str]:
    """Return the first word of each change."""
    return [each["what"].split()[0] for each in done["changes"]]


def test_the_stick_is_plugged_into_a_running_domain_and_taken_back(l1: QemuGuest) -> None:
    """`apply` passes it to L2, once; `--remove` undoes it."""
    before = reads(l1)
    with stick(l1):
        until_healthy(l1)
        done = drawwell(l1, *APPLY)
        assert changes(done) == ["added", "paused", "plugged", "the"], done
        until_l2_reads(l1, before + 1)
        l1.check("test ! -e /dev/ttyACM0")
        assert drawwell(l1, *APPLY)["changes"] == []
        assert changes(drawwell(l1, *APPLY, "--remove")) == ["unplugged", "removed", "removed"]
        until_l2_lost(l1, before + 1)
        until_healthy(l1)


def test_the_rule_passes_on_a_stick_that_is_plugged_in_again(l1: QemuGuest) -> None:
    """udev runs `apply`, which replaces the device of the unplugged stick."""
    before = reads(l1)
    planned = drawwell(l1, "guest", "plan", "libvirt", "l2", "--via", "usb")
    (rule,) = (each for each in planned["pieces"] if each["into"].startswith("/etc/udev/rules.d/"))
    l1.put(rule["into"], rule["text"])
    l1.check("udevadm control --reload")
    for number in (before + 1, before + 2):
        with stick(l1):
            until_l2_reads(l1, number)
    l1.check(f"rm {rule['into']} && udevadm control --reload")
    assert drawwell(l1, *APPLY, "--remove")["exit"] == 0
    until_l2_lost(l1, before + 2)


def test_a_domain_with_a_hostdev_of_its_owner_has_the_stick(l1: QemuGuest) -> None:
    """Started with it, L2 reads it, and `apply` is refused; L1 regains it."""
    l1.check("virsh destroy l2 && virsh undefine l2", within_s=LONG_S)
    with stick(l1):
        until_healthy(l1)
        start(l1, OWN_STICK)
        until_l2_reads(l1, 1)
        assert "was taken by qemu-system" in drawwell(l1, "status")["said"]
        refused = drawwell(l1, *APPLY)
        assert (refused["exit"], "already has a <hostdev>" in refused["said"]) == (64, True), refused
        l1.check("virsh destroy l2", within_s=LONG_S)
        until_healthy(l1)
