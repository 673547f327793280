"""Parsing and auditing a running QEMU's command line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drawwell.guests.model import Attachment, Guest, GuestKind, GuestVerdict
from drawwell.guests.qemu.command_line import is_qemu, read_command
from drawwell.guests.qemu.findings import Generator, device_findings, generation_finding
from drawwell.guests.qemu.plan import plan
from drawwell.units import parse_allowance


def planned(via: Attachment) -> list[str]:
    made = plan(Guest(GuestKind.QEMU, "web01", via, rate=parse_allowance("1KiB/s")))
    return made.pieces[0].text.replace(" \\\n", " ").split()


def failing(arguments: list[str]) -> list[str]:
    found = read_command(arguments)
    findings = [
        *device_findings(found.generators),
        generation_finding(present=found.generation_id),
    ]
    return [each.what for each in findings if each.verdict is GuestVerdict.FAILS]


def test_what_we_plan_is_read_back_and_good() -> None:
    """The planned arguments have backend, limit and ID, and no fault."""
    found = read_command(["-name", "web01,debug-threads=on", *planned(Attachment.VIRTIO)])
    assert (found.name, found.generation_id) == ("web01", True)
    assert found.generators == (
        Generator("rng-egd", "/run/drawwell/guests/web01/egd.sock", True, 8256, 8000),
    )
    assert failing(planned(Attachment.VIRTIO)) == []


def test_monitor_and_agent_are_found() -> None:
    """Found by -qmp, by -mon with a chardev, by port name, with any -name."""
    arguments = [
        "-name", "guest=db01", "-qmp", "unix:/q,server=on", "-chardev", "socket,id=m,path=/m,server=on",
        "-mon", "chardev=m,mode=control", "-chardev", "socket,path=/ga,,x,server=on,wait=off,id=ga",
        "-device", "virtserialport,chardev=ga,name=org.qemu.guest_agent.0",
    ]  # fmt: skip
    found = read_command(arguments)
    assert (found.name, found.monitors, found.agent) == ("db01", ("/q", "/m"), "/ga,x")


def test_libvirts_json_is_read() -> None:
    """libvirt's JSON devices and objects are parsed and attributed to it."""
    found = read_command([
        "-object", '{"qom-type":"rng-random","id":"objrng0","filename":"/dev/urandom"}',
        "-device", '{"driver":"virtio-rng-pci","rng":"objrng0","max-bytes":1000,"period":1000,"id":"rng0"}',
        "-object", '{"qom-type":"secret","id":"k","file":"/var/lib/libvirt/qemu/domain-1-x/master-key.aes"}',
    ])  # fmt: skip
    assert found.of_libvirt
    assert found.generators == (Generator("rng-random", "/dev/urandom", max_bytes=1000, period_ms=1000),)


def test_each_harmful_setting_fails() -> None:
    """The stick, a bad limit, no reconnect, no device or no ID fails."""
    stick = ["-object", "rng-random,id=r,filename=/dev/ttyACM0", "-device", "virtio-rng-pci,rng=r"]
    assert "the backend is safe" in failing(stick)
    stalls = ["-object", "rng-builtin,id=r", "-device", "virtio-rng-pci,rng=r,max-bytes=1000,period=1000"]
    assert "the limit lets bytes through" in failing(stalls)
    egd = [
        "-chardev",
        "socket,id=c,path=/s",
        "-object",
        "rng-egd,id=r,chardev=c",
        "-device",
        "virtio-rng-pci,rng=r",
    ]
    assert "the machine survives a restart of the broker" in failing(egd)
    assert failing([]) == ["the machine has virtio-rng", "the machine has a VM generation ID"]
    two = ["-device", "virtio-rng-pci", *planned(Attachment.VIRTIO)]
    assert failing(two) == ["the machine has only one virtio-rng"]


def test_only_qemu_is_recognised_as_qemu() -> None:
    """QEMU is recognised by its program name, in any directory."""
    assert is_qemu("/usr/bin/qemu-system-x86_64")
    assert is_qemu("kvm")
    assert not is_qemu("/usr/bin/qemu-img")
    assert not is_qemu("kvm-irqfd-cleanup")


@given(
    st.lists(
        st.text(max_size=40) | st.sampled_from(["-device", "-name", "-object", "-mon", "{", "virtio-rng-pci"])
    )
)
def test_any_command_line_is_read(arguments: list[str]) -> None:
    """No command line of any process raises an exception."""
    read_command(arguments)


@pytest.mark.parametrize(
    "chardev", ["socket,id=c,path=/s\x1b]0;x\x07", '{"id":"c","path":"/s\\u001b]0;x\\u0007"}']
)
def test_what_another_user_wrote_moves_no_terminal(chardev: str) -> None:
    """Names and paths lose control characters, even from JSON."""
    machine = read_command([
        "-name", "vm\x1b[2J", "-chardev", chardev, "-mon", "chardev=c,mode=control",
        "-object", "rng-egd,id=r,chardev=c", "-device", "virtio-rng-pci,rng=r",
    ])  # fmt: skip
    assert (machine.name, machine.monitors) == ("vm?[2J", ("/s?]0;x?",))
    assert [each.place for each in machine.generators] == ["/s?]0;x?"]
