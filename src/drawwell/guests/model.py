"""What a guest is, what is planned for it, and what every kind of host software can be asked."""

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

from drawwell.errors import GuestUnavailable, UsageError
from drawwell.reports import Report
from drawwell.units import Allowance


class GuestKind(StrEnum):
    """What runs the guest."""

    QEMU = "qemu"
    LIBVIRT = "libvirt"
    LXC = "lxc"
    INCUS = "incus"
    DOCKER = "docker"
    PODMAN = "podman"
    PROXMOX = "proxmox"
    NSPAWN = "nspawn"
    FIRECRACKER = "firecracker"


class Attachment(StrEnum):
    """The way in. The first of each kind (WAYS) is what we advise."""

    VIRTIO = "virtio"
    """virtio-rng, fed by an EGD socket of the broker."""
    USB_VIRTUAL = "usb-virtual"
    """A virtual OneRNG, over usbredir."""
    USB = "usb"
    """The real stick, given away whole."""
    SOCKET = "socket"
    """The broker's own protocol: its socket, mounted into a container or behind a vsock."""
    DEVICE = "device"
    """The stick's device node, in a container."""
    FIFO = "fifo"
    """virtio-rng from a FIFO that drawwell holds open."""
    BUILTIN = "builtin"
    """virtio-rng from the host's kernel: no byte of ours."""


_MACHINE: Final = (
    Attachment.VIRTIO,
    Attachment.USB_VIRTUAL,
    Attachment.USB,
    Attachment.FIFO,
    Attachment.BUILTIN,
)
_CONTAINER: Final = (Attachment.SOCKET, Attachment.DEVICE)
ATTACHMENTS: Final = {
    GuestKind.QEMU: _MACHINE,
    GuestKind.LIBVIRT: _MACHINE,
    GuestKind.LXC: _CONTAINER,
    GuestKind.INCUS: _CONTAINER,
    GuestKind.DOCKER: _CONTAINER,
    GuestKind.PODMAN: _CONTAINER,
    GuestKind.PROXMOX: (Attachment.VIRTIO, Attachment.USB_VIRTUAL),
    GuestKind.NSPAWN: (Attachment.SOCKET,),
    GuestKind.FIRECRACKER: (Attachment.SOCKET,),
}
SOCKETS: Final = {
    Attachment.VIRTIO: "egd.sock",
    Attachment.USB_VIRTUAL: "usb.sock",
    Attachment.SOCKET: "draw.sock",
}
"""The file of a guest's socket in its directory; the other ways have none."""
NEW: Final = "Is it made or started later? Add --new."
"""What to do about a guest that is not there, where nothing needs it yet."""
_LIKE: Final = 0.6
"""How much of a name may differ (difflib)."""


def other_kind(name: str, kind: str) -> UsageError:
    """Return the fault that a guest of another kind has that name already."""
    return UsageError(
        f"{name} is a guest of {kind} already",
        hint=f"Take another name, or remove it there first: 'drawwell guest apply {kind} {name} --remove'.",
    )


def unknown(message: str, name: str, names: Iterable[str], hint: str) -> GuestUnavailable:
    """Return the fault that there is no such guest; its hint starts with the names that are like it."""
    from difflib import get_close_matches  # noqa: PLC0415 - start-up time: only a fault needs it

    near = get_close_matches(name, sorted(set(names)), cutoff=_LIKE)
    return GuestUnavailable(message, hint=f"There is {', '.join(near)}. {hint}" if near else hint)


def guest_directory(run_dir: str, name: str) -> str:
    """Where a guest's socket is."""
    return posixpath.join(run_dir, "guests", name)


@dataclass(frozen=True, slots=True)
class Guest:
    """One guest. `name` is the consumer's and the domain's or container's alike, unless `domain` says otherwise.

    `device` is the stick for the ways that give it away, "" where there is only one: for USB the kernel's name
    of its port, such as ``1-1.2`` (the command line has found it), for `Attachment.DEVICE` its node or a link to it.
    """

    kind: GuestKind
    name: str
    via: Attachment
    rate: Allowance | None = None
    quota: Allowance | None = None
    draw_class: str = "full"
    run_dir: str = "/run/drawwell"
    domain: str = ""
    device: str = ""
    anew: bool = False
    """Plug it into the machine that runs though it is there: it has lost its broker."""

    @property
    def target(self) -> str:
        """What the host software calls it."""
        return self.domain or self.name

    @property
    def socket(self) -> str:
        """The path of its socket, "" for a way without."""
        file = SOCKETS.get(self.via, "")
        return posixpath.join(guest_directory(self.run_dir, self.name), file) if file else ""


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of configuration. `into`: a file, a command, or "paste"; `text` ends with a newline."""

    title: str
    into: str
    text: str


@dataclass(frozen=True, slots=True)
class Plan(Report):
    """Everything that is to be written for a guest, and what its owner should know, a sentence each."""

    name: str
    kind: GuestKind
    via: Attachment
    pieces: tuple[Piece, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Change(Report):
    """Something that was done: what, and where."""

    what: str
    where: str


class GuestVerdict(StrEnum):
    """What was found."""

    HOLDS = "holds"
    FAILS = "fails"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class GuestFinding(Report):
    """One thing that was looked at, from inside the guest or from the host; `hint` says what to do about it."""

    what: str
    verdict: GuestVerdict
    detail: str
    inside: bool = False
    hint: str = ""


@dataclass(frozen=True, slots=True)
class GuestFacts(Report):
    """What the host's software says of one of its guests; None is "cannot be known from here"."""

    kind: GuestKind
    name: str
    running: bool
    virtio_rng: bool | None
    backend: str
    limit: str
    generation_id: bool | None
    findings: tuple[GuestFinding, ...] = ()


@dataclass(frozen=True, slots=True)
class GuestCommandResult:
    """What a program said inside a guest."""

    status: int
    output: bytes = field(repr=False)
    errors: str = ""


class Inside(Protocol):
    """A way to run something inside a guest: its agent, lxc-attach, incus exec, docker exec."""

    def run(self, argv: list[str], *, stdin: bytes = b"", timeout_s: float = 30.0) -> GuestCommandResult:
        """Run it as the guest's root.

        Raises:
            GuestUnavailable: there is no way in, or it did not end in time.
        """


class Hypervisor(Protocol):
    """The software that runs guests of one kind. Every call may block: the CLI calls it, never the broker."""

    def plan(self, guest: Guest) -> Plan:
        """Return what would be written; touches nothing.

        Raises:
            UsageError: this kind has no such way in, or a word in it cannot be written safely.
        """

    def require(self, guest: Guest) -> None:
        """See that there is such a guest, before anything is added for it.

        Raises:
            GuestUnavailable: there is none, or its software does not answer.
            PermissionRefused: not for this user.
        """

    def owner(self, guest: Guest) -> tuple[int | None, int | None]:
        """Return the user and group, by number, that must reach the guest's socket; None is the broker's own.

        For instance libvirt-qemu and kvm, or who root of an unprivileged container is out here.

        Raises:
            GuestUnavailable: that cannot be known.
        """

    def apply(self, guest: Guest) -> list[Change]:
        """Do it; the second time it changes nothing and returns nothing. The broker's side is there already.

        Raises:
            GuestUnavailable: no such guest, its software does not answer, or refuses.
            PermissionRefused: not for this user.
        """

    def remove(self, guest: Guest) -> list[Change]:
        """Undo it, files byte for byte; raises as `apply`."""

    def inside(self, guest: Guest) -> Inside | None:
        """Return a way in; None when the guest has none, and only the host's side can be seen."""

    def audit(self) -> list[GuestFacts]:
        """Return every guest on this host; an empty list where the software is not installed.

        Raises:
            GuestUnavailable: it is installed and does not answer.
        """
