"""Pure: the plan for libvirt (XML, virt-install options, a hook).

Sources: formatdomain.html ("Random number generator device", "Redirected devices", "Host
device assignment", "Metadata and generation id") and hooks.html.
"""

import re
import shlex
from collections.abc import Iterator
from string import ascii_lowercase
from typing import Final
from xml.dom.minidom import Element

from drawwell.errors import UsageError
from drawwell.guests.libvirt.domain_xml import (
    OWN_ALIAS,
    Domain,
    attribute,
    children,
    element,
    text_at,
    written,
)
from drawwell.guests.model import SEED, SOCKETS, Attachment, Guest, GuestKind, Piece, Plan, guest_directory
from drawwell.guests.qemu.plan import (
    BUILTIN_NOTE,
    FIFO_NOTE,
    NEVER_THE_DEVICE,
    PERIOD_MS,
    RECONNECT_S,
    SEED_NOTE,
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
_PLAIN: Final = re.compile(r"[A-Za-z0-9_./+@:-]+", re.ASCII)
"""Values that need no quoting in virt-install's options."""


def plan(guest: Guest, stick: tuple[int, int] | None = None, uri: str = "") -> Plan:
    """Return the configuration for this guest's domain, with notes.

    Args:
        guest: The guest.
        stick: The stick's current bus and number, needed only if there are several sticks.
        uri: The libvirt connection; "" for the system's own.

    Raises:
        UsageError: machines do not support the attachment, or a value cannot be written.
    """
    made = device(guest, stick)
    pieces = [
        Piece(
            "device", f"virsh attach-device {shlex.quote(guest.target)} FILE --live --config", written(made)
        ),
        Piece("VM generation ID", "the domain's XML, next to <name>", written(element("genid"))),
        *_virt_install(made, guest),
        *_host_pieces(guest, uri),
    ]
    return Plan(guest.name, GuestKind.LIBVIRT, guest.via, tuple(pieces), _notes(guest))


def device(guest: Guest, stick: tuple[int, int] | None = None) -> Element:
    """Return the device element, with our alias; same errors as `plan`."""
    made = _device(guest, stick)
    made.appendChild(element("alias", {"name": alias(guest)}))
    return made


def seed_disk(guest: Guest, taken: set[str]) -> Element:
    """Return the disk with the guest's seed; `taken`: disk names in use.

    If the image was deleted by a host restart, the domain starts without it ("startupPolicy").
    """
    target = next(f"vd{letter}" for letter in reversed(ascii_lowercase) if f"vd{letter}" not in taken)
    return element(
        "disk",
        {"type": "file", "device": "disk"},
        element("driver", {"name": "qemu", "type": "raw"}),
        element("source", {"file": guest.seed_image, "startupPolicy": "optional"}),
        element("target", {"dev": target, "bus": "virtio"}),
        element("readonly"),
    )


def seeds_of_others(domain: Domain, guest: Guest) -> list[Element]:
    """Return other guests' seed disks; a clone has the original's."""
    folder = guest_directory(guest.run_dir, "")
    return [
        disk
        for file in domain.disk_files
        if file.startswith(folder) and file.endswith(f"/{SEED}") and file != guest.seed_image
        for disk in domain.disks(file)
    ]


def sticks_of_owner(domain: Domain, guest: Guest) -> list[Element]:
    """Return the domain owner's own <hostdev> elements for a OneRNG."""
    ids = (f"{ONERNG_VENDOR:#06x}", f"{ONERNG_PRODUCT:#06x}")
    ours = domain.of_guest(alias(guest), ())
    return [
        each
        for each in domain.devices("hostdev")
        if each not in ours
        and tuple(attribute(each, "source", of, "id") for of in ("vendor", "product")) == ids
    ]


def alias(guest: Guest) -> str:
    """Return the alias of a guest's device (formatdomain, "Devices")."""
    return f"{OWN_ALIAS}drawwell-{guest.name.replace('.', '_')}"


def paths(guest: Guest) -> tuple[str, ...]:
    """Return all paths that a guest's device may use."""
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
        f"libvirt domains do not support --via {guest.via}",
        hint="Use virtio, usb-virtual, usb, fifo or builtin.",
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
    """Return the stick's device, with an address if there are several sticks."""
    which = [
        element("vendor", {"id": f"{ONERNG_VENDOR:#06x}"}),
        element("product", {"id": f"{ONERNG_PRODUCT:#06x}"}),
    ]
    if stick:
        which.append(element("address", {"bus": str(stick[0]), "device": str(stick[1])}))
    source = element("source", {"startupPolicy": "optional"}, *which)
    return element("hostdev", {"mode": "subsystem", "type": "usb", "managed": "yes"}, source)


def _virt_install(made: Element, guest: Guest) -> list[Piece]:
    """Return virt-install options; empty if they cannot express a path."""
    places = list(_places(made, "."))
    if not all(_PLAIN.fullmatch(value) for _, value in places):
        return []
    options = ",".join(
        f"xpath{n}.set={path},xpath{n}.value={value}" for n, (path, value) in enumerate(places)
    )
    disk = f" --disk {guest.seed_image},target.bus=virtio,readonly=yes" if guest.seed else ""
    text = f"--{made.tagName} {options} --metadata genid_enable=yes{disk}\n"
    return [Piece("for a new machine", "virt-install", text)]


def _places(made: Element, path: str) -> Iterator[tuple[str, str]]:
    """Yield the path and value of every attribute and text."""
    for name, value in made.attributes.items():
        yield f"{path}/@{name}", value
    if text := text_at(made):
        yield path, text
    for child in children(made):
        yield from _places(child, f"{path}/{child.tagName}")


def _host_pieces(guest: Guest, uri: str) -> list[Piece]:
    """Return the plan's pieces outside the domain, for the host and the guest."""
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
    """Return whether the guest gets a hook: reseeding needs a consumer."""
    return guest.via not in {Attachment.FIFO, Attachment.BUILTIN}


def hook_path(guest: Guest, hooks: str = HOOKS) -> str:
    """Return the file of a guest's hook."""
    return f"{hooks}/drawwell-{guest.name}"


def hook(guest: Guest) -> str:
    """Return the hook, which libvirt runs after the domain has started."""
    command = ["drawwell", "guest", "reseed", guest.name, "--timeout", "5min"]
    if guest.domain:
        command += ["--domain", guest.domain]
    return (
        "#!/bin/sh\n"
        "# drawwell: reseeds the guest, because a clone or a restored snapshot would repeat its output.\n"
        "# libvirt waits for this script, which must not call libvirt: the command runs detached.\n"
        f'[ "$1" = {shlex.quote(guest.target)} ] && [ "$2" = started ] || exit 0\n'
        f"exec setsid -f {shlex.join(command)} >/dev/null 2>&1 </dev/null\n"
    )


def apparmor_line(run_dir: str) -> str:
    """Return the AppArmor rule that lets QEMU reach the sockets.

    Raises:
        UsageError: the path would need quoting in a rule.
    """
    if not _PLAIN.fullmatch(run_dir):
        raise UsageError(
            f"{run_dir!r} cannot be written in an AppArmor rule", hint="Set [broker] run_dir to a plain path."
        )
    return f"{run_dir}/guests/*/*.sock rw,\n"


SELINUX_RULE: Final = "(allow svirt_t unconfined_service_t (unix_stream_socket (connectto)))\n"
"""In CIL. Red Hat's policy lets svirt_t connect to unconfined_t, but not to a service."""


REPLACED_NOTE: Final = (
    "the domain already has {}, and the guest's kernel reads only one generator. The existing one is removed, stored "
    "in the domain's metadata, and restored by --remove."
)
_CLONE_NOTE: Final = (
    "with <genid/>, libvirt gives the guest a new number after a snapshot or a saved state is restored, and its "
    "kernel reseeds (Linux 5.18 and later with CONFIG_VMGENID; Debian's cloud kernel 6.1 has no driver). In other "
    "guests, the hook reseeds through the QEMU guest agent. libvirtd looks for hooks when it starts, so restart "
    "libvirtd once."
)
_SOCKET_NOTE: Final = (
    "QEMU runs as libvirt's own user. This user owns the guest's socket and must be able to enter its directory. "
    "libvirt cannot start the domain while the broker is not listening on the socket."
)
REMOTE_NOTE: Final = (
    "libvirt at {} is on another machine. The guest's socket must be on that machine, created by that machine's own "
    "broker, which must know this guest."
)
_CONTROLLER_NOTE: Final = (
    "the domain needs a USB controller. libvirt adds one by itself; qemu-xhci is a good choice."
)
_USB_NOTE: Final = (
    "the whole stick is passed through: drawwell first releases it and later gets it back. libvirt refuses to give it "
    'to a second domain ("in use by driver QEMU"): first release it from the other domain.'
)


def _notes(guest: Guest) -> tuple[str, ...]:
    return (*_notes_on_way(guest), *([SEED_NOTE] if guest.seed else []))


def _notes_on_way(guest: Guest) -> tuple[str, ...]:
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
