"""Pure: the plan for plain QEMU (command-line options).

An option is ``kind,name=value,…``. A comma in a value is doubled (qemu(1), util/keyval.c).
"""

import shlex
from dataclasses import dataclass
from typing import Final

from drawwell.config.values import write_text
from drawwell.errors import UsageError
from drawwell.guests.model import Attachment, Change, Guest, GuestKind, Piece, Plan
from drawwell.guests.qemu.stick_rule import ONERNG_PRODUCT, ONERNG_VENDOR, hotplug_pieces
from drawwell.units import Allowance

REQUEST_BYTES: Final = 64
"""Linux's request size. A limit that is no multiple loses bytes: of 1000 per s, 896 arrive."""
PERIOD_MS: Final = 8000
"""The period of QEMU's limit: long enough to make the bytes lost at a refill negligible."""
RECONNECT_S: Final = 1


@dataclass(frozen=True, slots=True)
class Refill:
    """QEMU's limit: `max_bytes` per `PERIOD_MS`; None for no limit."""

    max_bytes: int | None

    @property
    def options(self) -> dict[str, int]:
        """The properties of ``virtio-rng-pci``."""
        return {} if self.max_bytes is None else {"max-bytes": self.max_bytes, "period": PERIOD_MS}


def refill(rate: Allowance | None) -> Refill:
    """Return the limit for a rate: the next multiple of 64 bytes, plus 64.

    Each refill loses up to 64 bytes: of 128 bytes per second, only 115 arrived.
    """
    if rate is None:
        return Refill(None)
    in_period = -(-rate.limit_bytes * PERIOD_MS // int(rate.period_s * 1000))
    return Refill((-(-in_period // REQUEST_BYTES) + 1) * REQUEST_BYTES)


def plan(guest: Guest, monitor: str = "") -> Plan:
    """Return the arguments for this guest's QEMU, with notes.

    Args:
        guest: The guest.
        monitor: The machine's QMP socket; "" to find the machine by name.

    Raises:
        UsageError: machines do not support the attachment, or a path cannot be written safely.
    """
    arguments, notes = _ways(guest)
    if guest.seed:
        arguments, notes = [*arguments, _seed(guest)], (*notes, SEED_NOTE)
    pieces = [Piece("QEMU arguments", "paste", command_line([*arguments, *GENERATION]))]
    if guest.via is Attachment.FIFO:
        pieces.append(fifo_piece(guest))
    if guest.via is Attachment.USB:
        pieces += hotplug_pieces(guest, monitor)
    if guest.via is Attachment.USB_VIRTUAL:
        pieces.append(Piece("in the guest, for the vendor's software", "/etc/onerng.conf", VENDOR_LINE))
    return Plan(guest.name, GuestKind.QEMU, guest.via, tuple(pieces), (*notes, GENERATION_NOTE))


CONTROLLER: Final = "qemu-xhci"
"""The USB controller, which QEMU needs for a virtual or real stick."""
GENERATION: Final = (("-device", "vmgenid,guid=auto"),)
GENERATION_NOTE: Final = (
    "the device vmgenid shows the guest's kernel that the machine was copied. With auto, every start of QEMU has a "
    "new number, so a guest restored from a file reseeds (Linux 5.18 and later; Debian's cloud kernel 6.1 has no "
    "driver). 'loadvm' in a running QEMU keeps the number: run 'drawwell guest reseed' afterwards."
)
VENDOR_LINE: Final = 'ONERNG_VERIFY_FIRMWARE="0"\n'
SEED_NOTE: Final = (
    "the seed disk is for the first boot. cloud-init reads it once and treats the guest as a new instance, with new "
    "SSH host keys. The seed is secret, and stays in memory until the host restarts: after the first boot, remove the "
    "disk with 'apply --no-seed'."
)
_RECONNECT_NOTE: Final = (
    "QEMU 9.2 and later need reconnect-ms=1000 instead of reconnect=1. Without this option, a guest that loses its "
    "broker once never receives another byte."
)
OTHERS_NOTE: Final = (
    "the machine already has a virtio-rng ({}), and its kernel reads only one generator. Omit that device at the next "
    "start. Until then, type in the guest: cat /sys/class/misc/hw_random/rng_available, then echo the last "
    "virtio_rng.N in it > rng_current there. With --via virtio and a guest agent, 'apply' does this."
)
NEVER_THE_DEVICE: Final = (
    "never give QEMU the stick itself (rng-random, filename=/dev/ttyACM0): at EOF, QEMU stops the whole guest. QEMU "
    "also does not set raw mode, so bytes arrive modified or not at all."
)


def kept(machine: str, other: object) -> Change:
    """Return the report that a running machine keeps another generator."""
    what = f"{machine} keeps {other}, which its kernel reads until another is selected"
    return Change(what, "/sys/class/misc/hw_random/rng_current in the guest")


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
            usb = [("-device", CONTROLLER), ("-chardev", chardev)]
            return [*usb, ("-device", option("usb-redir", id=name, chardev=name))], (
                VIRTUAL_NOTE,
                _RECONNECT_NOTE,
            )
        case Attachment.USB:
            stick = option("usb-host", id=name, **usb_host(guest))
            return [("-device", CONTROLLER), ("-device", stick)], (_USB_NOTE, _HOTPLUG_NOTE)
    raise UsageError(
        f"QEMU machines do not support --via {guest.via}",
        hint="Use virtio, usb-virtual, usb, fifo or builtin.",
    )


def _seed(guest: Guest) -> tuple[str, str]:
    drive = {"file": guest.seed_image, "format": "raw", "if": "virtio", "readonly": "on"}
    return "-drive", option(f"id={seed_identifier(guest)}", **drive)


def _virtio_rng(guest: Guest) -> tuple[str, str]:
    name = identifier(guest)
    return "-device", option("virtio-rng-pci", id=name, rng=name, **refill(guest.rate).options)


def usb_host(guest: Guest) -> dict[str, str]:
    """Return the ``usb-host`` properties that select the stick.

    Raises:
        UsageError: `device` is not a USB port such as ``1-1.2``.
    """
    if not guest.device:
        return {"vendorid": f"{ONERNG_VENDOR:#06x}", "productid": f"{ONERNG_PRODUCT:#06x}"}
    bus, _, port = guest.device.partition("-")
    if not (bus.isascii() and bus.isdecimal() and all(each.isdecimal() for each in port.split("."))):
        raise UsageError(
            f"{guest.device!r} is not a USB port such as 1-1.2",
            hint="'drawwell source list' shows the ports.",
        )
    return {"hostbus": bus, "hostport": port}


def identifier(guest: Guest) -> str:
    """Return our ID for the device in QEMU, such as ``drawwell-web01``."""
    return f"drawwell-{guest.name}"


def seed_identifier(guest: Guest) -> str:
    """Return the ID of the guest's seed disk in QEMU."""
    return f"seed-{identifier(guest)}"


def fifo(guest: Guest) -> str:
    """Return the path of the guest's FIFO."""
    return f"{guest.run_dir}/{guest.name}.fifo"


def option(kind: str, **properties: str | int) -> str:
    """Format an option; pass names such as ``max-bytes`` with ``**{…}``.

    Raises:
        UsageError: a value contains a line break or another control character.
    """
    return ",".join([kind, *(f"{name}={_value(str(value))}" for name, value in properties.items())])


def _value(text: str) -> str:
    if not text or not text.isprintable():
        raise UsageError(
            f"{text!r} cannot be written to QEMU's options", hint="Use a path of printable characters."
        )
    return text.replace(",", ",,")


def command_line(arguments: list[tuple[str, str]]) -> str:
    """Format options for a shell, one per line, joined with backslashes."""
    return " \\\n".join(f"{flag} {shlex.quote(value)}" for flag, value in arguments) + "\n"


def refill_note(rate: Allowance | None, *, at_broker: bool = True) -> str:
    """Explain QEMU's limit; `at_broker`: whether a broker enforces the rate."""
    max_bytes = refill(rate).max_bytes
    if max_bytes is None:
        return "no rate, so QEMU has no limit."
    both = f"the broker enforces the rate of {rate}; QEMU's higher limit is a second safeguard"
    alone = "no broker enforces the rate here, only QEMU does"
    return (
        f"{both if at_broker else alone}. This limit is a refill, not a rate: {max_bytes} bytes can pass at once, and "
        f"again {PERIOD_MS // 1000} s after the first: up to {max_bytes * 1000 // PERIOD_MS} bytes per second. It is "
        f"a multiple of {REQUEST_BYTES} because a guest requests {REQUEST_BYTES} at a time: a limit of 1000 per second "
        "would stall after 896, and a limit of 100 would deliver nothing."
    )


def fifo_piece(guest: Guest) -> Piece:
    """Return the sink that creates, fills and keeps open the guest's FIFO."""
    text = f'[[sink]]\nkind = "fifo"\npath = {write_text(fifo(guest))}\n'
    return Piece("the FIFO's writer", f"/etc/drawwell/conf.d/{guest.name}.toml", text)


FIFO_NOTE: Final = (
    "a FIFO lacks features of the socket: the guest is not a consumer, and has no account, no receipts and no rate "
    "except QEMU's; bytes wait in the pipe. At EOF, QEMU stops the whole guest. drawwell's sink keeps the pipe open, "
    "so stop the guest before drawwell."
)
BUILTIN_NOTE: Final = (
    "the backend rng-builtin reads the host's kernel: good randomness, but not bytes granted by drawwell. There is "
    "no account, no rate except QEMU's, and no evidence. Feed the host's kernel with [kernel] feed = true."
)
VIRTUAL_NOTE: Final = (
    "a virtual OneRNG has no firmware and reports this (cmdX). The vendor's software in the guest needs "
    'ONERNG_VERIFY_FIRMWARE="0" in /etc/onerng.conf. drawwell in the guest recognises the device by its name.'
)
_USB_NOTE: Final = (
    "the whole stick is passed through: one guest has it, and a second QEMU waits for it silently ('drawwell guest "
    "apply' and 'audit' show the stick's user; libvirt refuses it as in use by driver QEMU). QEMU's user must be able "
    "to open the stick's node in /dev/bus/usb. The host's driver is detached, so drawwell on the host sees the stick "
    "unplugged. The host gets the stick back when the guest stops or 'drawwell guest apply --remove' releases it."
)
_HOTPLUG_NOTE: Final = (
    "a QEMU started with these arguments takes the stick whenever it is plugged in. The rule is for other machines "
    "with a QMP socket: it runs 'drawwell guest apply' when the stick is plugged in."
)
