"""The udev rule that attaches a replugged stick to its guest."""

from drawwell.guests.libvirt import plan as plan_libvirt
from drawwell.guests.model import Attachment, Guest, GuestKind, Plan
from drawwell.guests.qemu import plan as plan_qemu
from drawwell.guests.qemu.command_line import read_command
from drawwell.guests.qemu.stick_rule import rule


def rules(made: Plan) -> list[str]:
    return [each.into for each in made.pieces if each.into.startswith("/etc/udev/")]


def test_the_rule_repeats_the_command() -> None:
    """The rule has the same kind, name, domain, port and --connect."""
    text = rule(Guest(GuestKind.QEMU, "web01", Attachment.USB, domain="l2", device="1-1.2"), "/run/web01.qmp")
    assert text == (
        'ACTION=="add", SUBSYSTEM=="usb", ENV{DEVTYPE}=="usb_device", ATTR{idVendor}=="1d50", '
        'ATTR{idProduct}=="6086", KERNEL=="1-1.2", RUN+="/usr/bin/systemd-run --no-block --collect '
        'drawwell guest apply qemu web01 --via usb --yes --domain l2 --device 1-1.2 --connect /run/web01.qmp"\n'
    )


def test_both_kinds_of_machines_have_it_for_the_real_stick_alone() -> None:
    """Plans with --via usb have the rule, unless a name would need quotes."""
    file = "/etc/udev/rules.d/85-drawwell-web01.rules"
    given = Guest(GuestKind.QEMU, "web01", Attachment.USB)
    assert rules(plan_qemu.plan(given)) == rules(plan_libvirt.plan(given)) == [file]
    assert rules(plan_qemu.plan(Guest(GuestKind.QEMU, "web01", Attachment.USB_VIRTUAL))) == []
    assert rules(plan_qemu.plan(given, '/run/a" b.qmp')) == []
    assert rules(plan_libvirt.plan(given, uri="qemu:///session?a=$b")) == []


def test_a_machine_with_a_stick_is_recognised() -> None:
    """Its command line has the USB IDs, or drawwell's ID at a port."""

    def wants(device: str) -> str | None:
        return read_command(["-device", device]).stick

    assert wants("usb-host,vendorid=0x1d50,productid=0x6086") == ""
    assert wants("usb-host,id=drawwell-web01,hostbus=1,hostport=2") == "1-2"
    assert wants("usb-host,vendorid=0x046d,productid=0xc31c") is None
    assert wants("usb-redir,id=drawwell-web01,chardev=a") is None
