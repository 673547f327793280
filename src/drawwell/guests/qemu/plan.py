"""What plain QEMU must be told on its command line, for each way in. Pure: text out, nothing is looked at.

QEMU's options are ``kind,name=value,…`` and a comma in a value is doubled (qemu(1), "Options", util/keyval.c).
"""

import shlex
from dataclasses import dataclass
from typing import Final

from drawwell.config.values import write_text
from drawwell.errors import UsageError
from drawwell.guests.model import Attachment, Guest, GuestKind, Piece, Plan
from drawwell.guests.qemu.stick_rule import ONERNG_PRODUCT, ONERNG_VENDOR, hotplug_pieces
from drawwell.units import Allowance

REQUEST_BYTES: Final = 64
"""What a Linux guest asks for at a time. A limit that is no multiple of it stalls: of 1000 a second 896 arrive."""
PERIOD_MS: Final = 8000
"""Of QEMU's own limit: long enough that what a refill cuts off does not count."""
RECONNECT_S: Final = 1


@dataclass(frozen=True, slots=True)
class Refill:
    """QEMU's own limit: `max_bytes` may pass in each period of `PERIOD_MS`; None is no limit."""

    max_bytes: int | None

    @property
    def options(self) -> dict[str, int]:
        """As properties of ``virtio-rng-pci``."""
        return {} if self.max_bytes is None else {"max-bytes": self.max_bytes, "period": PERIOD_MS}


def refill(rate: Allowance | None) -> Refill:
    """Return the limit for a guest of that rate: the next multiple of 64 bytes above it, and 64 more.

    The 64 more are those that a refill cuts off: of 128 bytes in each second 115 were seen to arrive.
    """
    if rate is None:
        return Refill(None)
    in_period = -(-rate.limit_bytes * PERIOD_MS // int(rate.period_s * 1000))
    return Refill((-(-in_period // REQUEST_BYTES) + 1) * REQUEST_BYTES)


def plan(guest: Guest, monitor: str = "") -> Plan:
    """Return the arguments for this guest's QEMU, and why they are so.

    Args:
        guest: The guest.
        monitor: Its QMP socket, "" where the machine is found by its name.

    Raises:
        UsageError: a machine has no such way in, or a path cannot be written.
    """
    arguments, notes = _ways(guest)
    pieces = [Piece("QEMU arguments", "paste", command_line([*arguments, *GENERATION]))]
    if guest.via is Attachment.FIFO:
        pieces.append(fifo_piece(guest))
    if guest.via is Attachment.USB:
        pieces += hotplug_pieces(guest, monitor)
    if guest.via is Attachment.USB_VIRTUAL:
        pieces.append(Piece("in the guest, for the vendor's software", "/etc/onerng.conf", VENDOR_LINE))
    return Plan(guest.name, GuestKind.QEMU, guest.via, tuple(pieces), (*notes, GENERATION_NOTE))


GENERATION: Final = (("-device", "vmgenid,guid=auto"),)
GENERATION_NOTE: Final = (
    "the device vmgenid tells the guest's kernel that it was copied: auto is a new number in each start of QEMU, so a "
    "guest that is restored from a file reseeds (Linux 5.18 and later; Debian's cloud kernel 6.1 has no driver "
    "for it). 'loadvm' in a running QEMU changes no number: run 'drawwell guest reseed' after it."
)
VENDOR_LINE: Final = 'ONERNG_VERIFY_FIRMWARE="0"\n'
_RECONNECT_NOTE: Final = (
    "QEMU 9.2 and later want reconnect-ms=1000 in the place of reconnect=1. Without either, a guest that lost "
    "its broker once never gets a byte again."
)
OTHERS_NOTE: Final = (
    "the machine has a virtio-rng already ({}), and its kernel reads one generator only. Leave that device out at its "
    "next start. Until then 'apply' makes this broker's the current one, by the guest agent. Without an agent, type in "
    "the guest: cat /sys/class/misc/hw_random/rng_available, then echo the last virtio_rng.N of it > rng_current there."
)
NEVER_THE_DEVICE: Final = (
    "never give QEMU the stick itself (rng-random, filename=/dev/ttyACM0): at its end of file QEMU stops the "
    "whole guest, and it sets no raw mode, so that bytes arrive changed or not at all."
)


def _ways(guest: Guest) -> tuple[list[tuple[str, str]], tuple[str, ...]]:
    name, notes = identifier(guest), tuple[str, ...]()
    match guest.via:
        case Attachment.VIRTIO:
            chardev = option("socket", id=name, path=guest.socket, reconnect=RECONNECT_S)
            backend = [("-chardev", chardev), ("-object", option("rng-egd", id=name, chardev=name))]
            return [*backend, _virtio_rng(guest)], (
                refill_note(guest.rate),
                _RECONNECT_NOTE,
                NEVER_THE_DEVICE,
            )
        case Attachment.FIFO:
            backend = [("-object", option("rng-random", id=name, filename=fifo(guest)))]
            notes = refill_note(guest.rate, at_broker=False), FIFO_NOTE, NEVER_THE_DEVICE
            return [*backend, _virtio_rng(guest)], notes
        case Attachment.BUILTIN:
            notes = refill_note(guest.rate, at_broker=False), BUILTIN_NOTE
            return [("-object", option("rng-builtin", id=name)), _virtio_rng(guest)], notes
        case Attachment.USB_VIRTUAL:
            chardev = option("socket", id=name, path=guest.socket, reconnect=RECONNECT_S)
            usb = [("-device", "qemu-xhci"), ("-chardev", chardev)]
            return [*usb, ("-device", option("usb-redir", id=name, chardev=name))], (
                VIRTUAL_NOTE,
                _RECONNECT_NOTE,
            )
        case Attachment.USB:
            stick = option("usb-host", id=name, **usb_host(guest))
            return [("-device", "qemu-xhci"), ("-device", stick)], (_USB_NOTE, _HOTPLUG_NOTE)
    raise UsageError(
        f"a QEMU machine has no way in called {guest.via}",
        hint="Ways into a machine are virtio, usb-virtual, usb, fifo and builtin.",
    )


def _virtio_rng(guest: Guest) -> tuple[str, str]:
    name = identifier(guest)
    return "-device", option("virtio-rng-pci", id=name, rng=name, **refill(guest.rate).options)


def usb_host(guest: Guest) -> dict[str, str]:
    """Return the properties of ``usb-host`` that find the stick: by its port when that is said, else by its kind.

    Raises:
        UsageError: `device` is no port of the kernel's, such as ``1-1.2``.
    """
    if not guest.device:
        return {"vendorid": f"{ONERNG_VENDOR:#06x}", "productid": f"{ONERNG_PRODUCT:#06x}"}
    bus, _, port = guest.device.partition("-")
    if not (bus.isascii() and bus.isdecimal() and all(each.isdecimal() for each in port.split("."))):
        raise UsageError(
            f"{guest.device!r} is not a USB port such as 1-1.2",
            hint="'drawwell source list' names the ports.",
        )
    return {"hostbus": bus, "hostport": port}


def identifier(guest: Guest) -> str:
    """Return the name of everything of ours in QEMU, for instance ``drawwell-web01``."""
    return f"drawwell-{guest.name}"


def fifo(guest: Guest) -> str:
    """Return the path of the guest's FIFO."""
    return f"{guest.run_dir}/{guest.name}.fifo"


def option(kind: str, **properties: str | int) -> str:
    """Write one option; ``max-bytes`` and the like are passed with ``**{…}``.

    Raises:
        UsageError: a value has a line break or another control character.
    """
    return ",".join([kind, *(f"{name}={_value(str(value))}" for name, value in properties.items())])


def _value(text: str) -> str:
    if not text or not text.isprintable():
        raise UsageError(
            f"{text!r} cannot be written into QEMU's options", hint="Use a path of printable characters."
        )
    return text.replace(",", ",,")


def command_line(arguments: list[tuple[str, str]]) -> str:
    """Write options to be pasted into a shell, one a line, but for the last with a backslash at the end."""
    return " \\\n".join(f"{flag} {shlex.quote(value)}" for flag, value in arguments) + "\n"


def refill_note(rate: Allowance | None, *, at_broker: bool = True) -> str:
    """Explain QEMU's limit; `at_broker` is False where no broker keeps the rate."""
    max_bytes = refill(rate).max_bytes
    if max_bytes is None:
        return "no rate, so QEMU is given no limit."
    who = f"the broker keeps the rate of {rate}, and QEMU's limit lies above it as a second fence"
    alone = "no broker keeps the rate here: QEMU alone does"
    return (
        f"{who if at_broker else alone}. It is a refill, not a rate: {max_bytes} bytes may pass, at once if there are "
        f"so many, and {PERIOD_MS // 1000} s after the first of them {max_bytes} again, so up to "
        f"{max_bytes * 1000 // PERIOD_MS} bytes a second. It is a multiple of {REQUEST_BYTES} because a guest asks for "
        f"{REQUEST_BYTES} at a time: 1000 a second would stall after 896, and 100 give none."
    )


def fifo_piece(guest: Guest) -> Piece:
    """Return the setting by which drawwell makes the guest's FIFO, fills it and holds it open."""
    text = f'[[sink]]\nkind = "fifo"\npath = {write_text(fifo(guest))}\n'
    return Piece("the FIFO's writer", f"/etc/drawwell/conf.d/{guest.name}.toml", text)


FIFO_NOTE: Final = (
    "a FIFO gives up what the socket has: the guest is no consumer of its own, has no account, no receipts and "
    "no rate but QEMU's, and bytes lie in the pipe. At its end QEMU stops the whole guest: drawwell's sink "
    "holds it open, and the guest must not run longer than drawwell does."
)
BUILTIN_NOTE: Final = (
    "the backend rng-builtin asks the host's kernel: good randomness, and never a byte that drawwell granted. There "
    "is no account, no rate but QEMU's, and no evidence; feed the host's kernel by [kernel] feed = true."
)
VIRTUAL_NOTE: Final = (
    "a virtual OneRNG has no firmware, and refuses to pretend that it had (cmdX): the vendor's software in the "
    'guest needs ONERNG_VERIFY_FIRMWARE="0" in /etc/onerng.conf. drawwell in the guest knows it by its name.'
)
_USB_NOTE: Final = (
    "the stick is given away whole: one guest has it, and a second QEMU waits for it without a word ('drawwell guest "
    "apply' and 'audit' say who has it; libvirt says that it is in use by driver QEMU). QEMU must be allowed to open "
    "the stick's node in /dev/bus/usb. The host's driver is detached, so drawwell here sees it unplugged, and has it "
    "back when the guest ends, or 'drawwell guest apply --remove' takes it."
)
_HOTPLUG_NOTE: Final = (
    "a QEMU that was started with these arguments takes the stick by itself whenever it is plugged in. The rule is for "
    "a machine that was not, and has a QMP socket: 'drawwell guest apply' plugs it in then."
)
