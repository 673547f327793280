"""The plan for plain QEMU: exact text, with escaped values."""

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drawwell.errors import UsageError
from drawwell.guests.model import Attachment, Guest, GuestKind, Plan
from drawwell.guests.qemu.command_line import properties
from drawwell.guests.qemu.plan import PERIOD_MS, option, plan, refill
from drawwell.units import Allowance, parse_allowance


def guest(via: Attachment, **more: object) -> Guest:
    return Guest(GuestKind.QEMU, "web01", via, **more)


def lines(made: Plan) -> list[str]:
    return made.pieces[0].text.removesuffix("\n").split(" \\\n")


def test_virtio_is_planned_with_a_refill_above_the_rate() -> None:
    """The plan has reconnect, an ID, and a limit that fits 64-byte requests."""
    assert lines(plan(guest(Attachment.VIRTIO, rate=parse_allowance("1KiB/s")))) == [
        "-chardev socket,id=drawwell-web01,path=/run/drawwell/guests/web01/egd.sock,reconnect=1",
        "-object rng-egd,id=drawwell-web01,chardev=drawwell-web01",
        "-device virtio-rng-pci,id=drawwell-web01,rng=drawwell-web01,max-bytes=8256,period=8000",
        "-device vmgenid,guid=auto",
    ]


def test_without_a_rate_there_is_no_limit() -> None:
    """QEMU gets neither a limit nor a period."""
    device = lines(plan(guest(Attachment.VIRTIO)))[2]
    assert device == "-device virtio-rng-pci,id=drawwell-web01,rng=drawwell-web01"


def test_the_other_ways_are_planned() -> None:
    """USB has a controller, usb-virtual a setting, a FIFO a writer."""
    virtual = plan(guest(Attachment.USB_VIRTUAL))
    assert lines(virtual)[:3] == [
        "-device qemu-xhci",
        "-chardev socket,id=drawwell-web01,path=/run/drawwell/guests/web01/usb.sock,reconnect=1",
        "-device usb-redir,id=drawwell-web01,chardev=drawwell-web01",
    ]
    assert virtual.pieces[1].text == 'ONERNG_VERIFY_FIRMWARE="0"\n'
    assert lines(plan(guest(Attachment.USB)))[1].endswith("vendorid=0x1d50,productid=0x6086")
    assert lines(plan(guest(Attachment.USB, device="3-1.2")))[1].endswith("hostbus=3,hostport=1.2")
    fifo = plan(guest(Attachment.FIFO))
    assert lines(fifo)[0] == "-object rng-random,id=drawwell-web01,filename=/run/drawwell/web01.fifo"
    assert fifo.pieces[1].text == '[[sink]]\nkind = "fifo"\npath = "/run/drawwell/web01.fifo"\n'
    assert lines(plan(guest(Attachment.BUILTIN)))[0] == "-object rng-builtin,id=drawwell-web01"


def test_no_plan_names_the_stick_as_a_file() -> None:
    """No attachment has the device as an argument; a note explains this."""
    for via in (
        Attachment.VIRTIO,
        Attachment.USB_VIRTUAL,
        Attachment.USB,
        Attachment.FIFO,
        Attachment.BUILTIN,
    ):
        assert "/dev/" not in plan(guest(via, device="1-1" if via is Attachment.USB else "")).pieces[0].text
    assert any("never give QEMU the stick itself" in note for note in plan(guest(Attachment.VIRTIO)).notes)


@pytest.mark.parametrize("device", ["/dev/ttyACM0", "1-1,id=x", "1", "-1", "1-", "1-1..2", "x-1"])
def test_what_is_no_port_is_refused(device: str) -> None:
    """Only the kernel's name of a USB port selects a stick."""
    with pytest.raises(UsageError):
        plan(guest(Attachment.USB, device=device))


def test_a_container_has_no_machines_way() -> None:
    """An attachment for containers is refused."""
    with pytest.raises(UsageError):
        plan(guest(Attachment.SOCKET))


@given(limit=st.integers(1, 10**9), period=st.floats(0.001, 10**6))
def test_a_refill_is_never_below_the_rate(limit: int, period: float) -> None:
    """QEMU's limit allows the granted rate, in 64-byte requests."""
    max_bytes = refill(Allowance(limit, period)).max_bytes
    assert max_bytes is not None
    assert max_bytes % 64 == 0
    assert max_bytes >= limit * PERIOD_MS / (period * 1000)


@given(value=st.text(min_size=1), other=st.text(min_size=1))
def test_no_value_breaks_out_of_its_option(value: str, other: str) -> None:
    """QEMU reads the same values and no other properties, or they are refused."""
    try:
        written = option("socket", id=other, path=value, reconnect=1)
    except UsageError:
        assert not value.isprintable() or not other.isprintable()
        return
    assert properties(written) == {"": "socket", "id": other, "path": value, "reconnect": "1"}


@given(
    run_dir=st.text(
        st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp", "Zs", "Cf", "Co", "Cn")), min_size=1
    )
)
def test_a_shell_hands_on_what_was_planned(run_dir: str) -> None:
    """Each option is one shell argument, for any run directory."""
    made = plan(Guest(GuestKind.QEMU, "web01", Attachment.VIRTIO, run_dir="/" + run_dir))
    arguments = shlex.split(made.pieces[0].text.replace(" \\\n", " "))
    assert [each for each in arguments if each.startswith("-")][:1] == ["-chardev"]
    assert len(arguments) == 8
