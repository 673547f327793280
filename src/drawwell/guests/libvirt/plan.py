"""What libvirt must be told for each way in: pieces of XML, options of virt-install, a hook. Pure: text out.

libvirt's own words: formatdomain.html ("Random number generator device", "Redirected devices", "Host device
assignment", "Metadata and generation id"), hooks.html.
"""

import re
import shlex
from collections.abc import Iterator
from typing import Final
from xml.dom.minidom import Element

from drawwell.errors import UsageError
from drawwell.guests.libvirt.domain_xml import OWN_ALIAS, children, element, text_at, written
from drawwell.guests.model import SOCKETS, Attachment, Guest, GuestKind, Piece, Plan, guest_directory
from drawwell.guests.qemu.plan import (
    BUILTIN_NOTE,
    FIFO_NOTE,
    NEVER_THE_DEVICE,
    PERIOD_MS,
    RECONNECT_S,
    VENDOR_LINE,
    VIRTUAL_NOTE,
    fifo,
    fifo_piece,
    refill,
    refill_note,
)
from drawwell.guests.qemu.stick_rule import ONERNG_PRODUCT, ONERNG_VENDOR, hotplug_pieces

HOOKS: Final = "/etc/libvirt/hooks/qemu.d"
APPARMOR_FILE: Final = "/etc/apparmor.d/local/abstractions/libvirt-qemu"
_WORD: Final = re.compile(r"[A-Za-z0-9_./+@:-]+", re.ASCII)
"""What needs no quotes in virt-install's options."""


def plan(guest: Guest, stick: tuple[int, int] | None = None, uri: str = "") -> Plan:
    """Return what this guest's domain must have, and why.

    Args:
        guest: The guest.
        stick: For `Attachment.USB` with two sticks: the bus and the number that the kernel gave it now.
        uri: Which libvirt, "" for the system's own.

    Raises:
        UsageError: a machine has no such way in, or a name or path cannot be written.
    """
    made = device(guest, stick)
    pieces = [
        Piece(
            "device", f"virsh attach-device {shlex.quote(guest.target)} FILE --live --config", written(made)
        ),
        Piece("VM generation id", "the domain's XML, beside <name>", written(element("genid"))),
        *_virt_install(made),
        *_beside(guest, uri),
    ]
    return Plan(guest.name, GuestKind.LIBVIRT, guest.via, tuple(pieces), _notes(guest))


def device(guest: Guest, stick: tuple[int, int] | None = None) -> Element:
    """Return the element for <devices>, with an alias by which it is known again; raises as `plan`."""
    made = _device(guest, stick)
    made.appendChild(element("alias", {"name": alias(guest)}))
    return made


def alias(guest: Guest) -> str:
    """Return the alias of a guest's device (formatdomain, "Devices"): letters, digits, _ and -."""
    return f"{OWN_ALIAS}drawwell-{guest.name.replace('.', '_')}"


def paths(guest: Guest) -> tuple[str, ...]:
    """Return what a guest's device can be fed from."""
    sockets = (f"{guest_directory(guest.run_dir, guest.name)}/{file}" for file in SOCKETS.values())
    return (*sockets, fifo(guest))


def _device(guest: Guest, stick: tuple[int, int] | None) -> Element:
    match guest.via:
        case Attachment.VIRTIO:
            return _rng(guest, element("backend", {"model": "egd", "type": "unix"}, _connect(guest)))
        case Attachment.FIFO:
            return _rng(guest, element("backend", {"model": "random"}, fifo(guest)))
        case Attachment.BUILTIN:
            return _rng(guest, element("backend", {"model": "builtin"}))
        case Attachment.USB_VIRTUAL:
            return element("redirdev", {"bus": "usb", "type": "unix"}, _connect(guest))
        case Attachment.USB:
            return _hostdev(stick)
    raise UsageError(
        f"a libvirt domain has no way in called {guest.via}",
        hint="Ways into a machine are virtio, usb-virtual, usb, fifo and builtin.",
    )


def _rng(guest: Guest, backend: Element) -> Element:
    limit = refill(guest.rate).max_bytes
    if limit is None:
        return element("rng", {"model": "virtio"}, backend)
    rate = element("rate", {"bytes": str(limit), "period": str(PERIOD_MS)})
    return element("rng", {"model": "virtio"}, rate, backend)


def _connect(guest: Guest) -> Element:
    reconnect = element("reconnect", {"enabled": "yes", "timeout": str(RECONNECT_S)})
    return element("source", {"mode": "connect", "path": guest.socket}, reconnect)


def _hostdev(stick: tuple[int, int] | None) -> Element:
    """The stick, by what it is, and by where it is when there are two; a domain starts without it, too."""
    which = [
        element("vendor", {"id": f"{ONERNG_VENDOR:#06x}"}),
        element("product", {"id": f"{ONERNG_PRODUCT:#06x}"}),
    ]
    if stick:
        which.append(element("address", {"bus": str(stick[0]), "device": str(stick[1])}))
    source = element("source", {"startupPolicy": "optional"}, *which)
    return element("hostdev", {"mode": "subsystem", "type": "usb", "managed": "yes"}, source)


def _virt_install(made: Element) -> list[Piece]:
    """The same for a machine that is yet to be made; none where the options cannot hold a path."""
    places = list(_places(made, "."))
    if not all(_WORD.fullmatch(value) for _, value in places):
        return []
    words = ",".join(f"xpath{n}.set={path},xpath{n}.value={value}" for n, (path, value) in enumerate(places))
    return [
        Piece("for a new machine", "virt-install", f"--{made.tagName} {words} --metadata genid_enable=yes\n")
    ]


def _places(made: Element, path: str) -> Iterator[tuple[str, str]]:
    """Yield every attribute and text below, with the path to it."""
    for name, value in made.attributes.items():
        yield f"{path}/@{name}", value
    if text := text_at(made):
        yield path, text
    for child in children(made):
        yield from _places(child, f"{path}/{child.tagName}")


def _beside(guest: Guest, uri: str) -> list[Piece]:
    """What belongs to a way in and is not the domain's."""
    pieces = []
    if has_hook(guest):
        pieces.append(Piece("hook: fresh bytes at every start", hook_path(guest), hook(guest)))
    if guest.socket:
        pieces.append(Piece("where AppArmor confines guests", APPARMOR_FILE, apparmor_line(guest.run_dir)))
        pieces.append(Piece("where SELinux confines guests", "semodule -i drawwell-guests.cil", SELINUX_RULE))
    if guest.via is Attachment.FIFO:
        pieces.append(fifo_piece(guest))
    if guest.via is Attachment.USB_VIRTUAL:
        pieces.append(Piece("in the guest, for the vendor's software", "/etc/onerng.conf", VENDOR_LINE))
    if guest.via is Attachment.USB:
        pieces += hotplug_pieces(guest, uri)
    return pieces


def has_hook(guest: Guest) -> bool:
    """Is it a guest of the broker, which can be reseeded by its name?"""
    return guest.via not in {Attachment.FIFO, Attachment.BUILTIN}


def hook_path(guest: Guest, hooks: str = HOOKS) -> str:
    """Return the file of a guest's hook."""
    return f"{hooks}/drawwell-{guest.name}"


def hook(guest: Guest) -> str:
    """Return the script that libvirt runs when the domain has started, be it from a snapshot."""
    words = ["drawwell", "guest", "reseed", guest.name, "--timeout", "5min"]
    if guest.domain:
        words += ["--domain", guest.domain]
    return (
        "#!/bin/sh\n"
        "# drawwell: a guest that goes on from a snapshot, or is a clone, would repeat itself: it gets fresh bytes.\n"
        "# libvirt waits for this script, which must not call it back: what does so is started apart.\n"
        f'[ "$1" = {shlex.quote(guest.target)} ] && [ "$2" = started ] || exit 0\n'
        f"exec setsid -f {shlex.join(words)} >/dev/null 2>&1 </dev/null\n"
    )


def apparmor_line(run_dir: str) -> str:
    """Return the rule that lets a confined QEMU reach the sockets.

    Raises:
        UsageError: the path cannot stand in a rule.
    """
    if not _WORD.fullmatch(run_dir):
        raise UsageError(
            f"{run_dir!r} cannot stand in an AppArmor rule", hint="Set [broker] run_dir to a plain path."
        )
    return f"{run_dir}/guests/*/*.sock rw,\n"


SELINUX_RULE: Final = "(allow svirt_t unconfined_service_t (unix_stream_socket (connectto)))\n"
"""In the Common Intermediate Language. Red Hat's policy has svirt_t connect to unconfined_t, but not to a service."""


REPLACED_NOTE: Final = (
    "the domain has {} already, and its kernel reads one generator only: that one is taken out, kept in the domain's "
    "metadata, and put back by --remove."
)
_CLONE_NOTE: Final = (
    "with <genid/> libvirt shows the guest a new number whenever a snapshot or a saved state is restored, and its "
    "kernel reseeds (Linux 5.18 and later with CONFIG_VMGENID; Debian's cloud kernel 6.1 has no driver). The hook "
    "does the same for guests without, through the QEMU guest agent. libvirtd looks for hooks when it starts: "
    "restart it once."
)
_SOCKET_NOTE: Final = (
    "QEMU runs as libvirt's own user, to whom the guest's socket belongs; that user must be able to enter its "
    "directory. While nobody listens at the socket, libvirt does not start the domain."
)
_CONTROLLER_NOTE: Final = (
    "the domain needs a USB controller: libvirt adds one by itself, and qemu-xhci is a good one."
)
_USB_NOTE: Final = (
    "the stick is given away whole: drawwell releases it first and takes it back after. libvirt refuses it to a second "
    'domain as "in use by driver QEMU": remove it from the first.'
)


def _notes(guest: Guest) -> tuple[str, ...]:
    match guest.via:
        case Attachment.VIRTIO:
            return refill_note(guest.rate), _SOCKET_NOTE, NEVER_THE_DEVICE, _CLONE_NOTE
        case Attachment.FIFO:
            return refill_note(guest.rate, at_broker=False), FIFO_NOTE, NEVER_THE_DEVICE, _CLONE_NOTE
        case Attachment.BUILTIN:
            return refill_note(guest.rate, at_broker=False), BUILTIN_NOTE, _CLONE_NOTE
        case Attachment.USB_VIRTUAL:
            return VIRTUAL_NOTE, _CONTROLLER_NOTE, _SOCKET_NOTE, _CLONE_NOTE
    return _USB_NOTE, _CLONE_NOTE
