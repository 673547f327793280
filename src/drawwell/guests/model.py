"""Guests, plans for guests, and the interface to every hypervisor."""

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

from drawwell.errors import GuestUnavailable, UsageError
from drawwell.reports import Report
from drawwell.units import Allowance


class GuestKind(StrEnum):
    """The software that runs the guest."""

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
    """How a guest is attached; the first one listed for a kind is recommended."""

    VIRTIO = "virtio"
    """virtio-rng, fed by an EGD socket of the broker."""
    USB_VIRTUAL = "usb-virtual"
    """A virtual OneRNG, attached by usbredir."""
    USB = "usb"
    """The real stick, passed through."""
    SOCKET = "socket"
    """The broker's own protocol on a socket in a container or behind a vsock."""
    DEVICE = "device"
    """The stick's device node, in a container."""
    FIFO = "fifo"
    """virtio-rng from a FIFO that drawwell keeps open."""
    BUILTIN = "builtin"
    """virtio-rng fed by the host's kernel, without drawwell."""


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
"""The name of a guest's socket in its directory; attachments not listed have no socket."""
SEED: Final = "seed.iso"
"""The name of a guest's seed image in its directory, deleted with the guest."""
SEEDED: Final = (GuestKind.QEMU, GuestKind.LIBVIRT, GuestKind.PROXMOX)
"""Kinds that can boot with a cloud-init disk."""
NEW: Final = "If the guest does not exist yet, add --new."
"""The hint for a missing guest if the plan does not require it to exist."""
_LIKE: Final = 0.6
"""Minimum similarity of a suggested name (difflib's cutoff)."""


def other_kind(name: str, kind: str) -> UsageError:
    """Return the error for a name that belongs to a guest of another kind."""
    return UsageError(
        f"{name} is already a guest of kind {kind}",
        hint=f"Choose another name, or first remove that guest with 'drawwell guest apply {kind} {name} --remove'.",
    )


def unknown(message: str, name: str, names: Iterable[str], hint: str) -> GuestUnavailable:
    """Return the error for an unknown guest; the hint suggests similar names."""
    from difflib import get_close_matches  # noqa: PLC0415 - start-up time: only errors need it

    near = get_close_matches(name, sorted(set(names)), cutoff=_LIKE)
    return GuestUnavailable(message, hint=f"Did you mean {', '.join(near)}? {hint}" if near else hint)


def guest_directory(run_dir: str, name: str) -> str:
    """Return the directory of a guest's socket."""
    return posixpath.join(run_dir, "guests", name)


@dataclass(frozen=True, slots=True)
class Guest:
    """A guest; `name` names its consumer and, by default, its domain.

    `device` selects the stick to pass through; "" selects the only stick. It is a USB port
    such as ``1-1.2``; for `Attachment.DEVICE` it is the device node or a link to it.
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
    seed: bool = False
    """Whether the guest has a seed disk for its first boot."""
    replug: bool = False
    """Whether to replug the device of a running machine that has lost its broker."""

    @property
    def target(self) -> str:
        """The name of the domain or container."""
        return self.domain or self.name

    @property
    def socket(self) -> str:
        """The path of the guest's socket; "" if the attachment has none."""
        file = SOCKETS.get(self.via, "")
        return posixpath.join(guest_directory(self.run_dir, self.name), file) if file else ""

    @property
    def seed_image(self) -> str:
        """The path of the guest's seed image."""
        return posixpath.join(guest_directory(self.run_dir, self.name), SEED)


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of configuration for `into`: a file, a command or "paste"."""

    title: str
    into: str
    text: str


@dataclass(frozen=True, slots=True)
class Plan(Report):
    """The configuration for a guest; each note is a sentence."""

    name: str
    kind: GuestKind
    via: Attachment
    pieces: tuple[Piece, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Change(Report):
    """A change that was made, and where."""

    what: str
    where: str


class GuestVerdict(StrEnum):
    """The result of one check."""

    HOLDS = "holds"
    FAILS = "fails"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class GuestFinding(Report):
    """The result of one check, in the guest or on the host."""

    what: str
    verdict: GuestVerdict
    detail: str
    inside: bool = False
    hint: str = ""


@dataclass(frozen=True, slots=True)
class GuestFacts(Report):
    """The hypervisor's facts about a guest; None means unknown."""

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
    """The result of a program that ran in a guest."""

    status: int
    output: bytes = field(repr=False)
    errors: str = ""


class Inside(Protocol):
    """Runs programs in a guest (agent, lxc-attach, incus or docker exec)."""

    def run(self, argv: list[str], *, stdin: bytes = b"", timeout_s: float = 30.0) -> GuestCommandResult:
        """Run a program as the guest's root.

        Raises:
            GuestUnavailable: the guest cannot be reached, or the program timed out.
        """


class Hypervisor(Protocol):
    """The software that runs one kind of guest; each call may block."""

    def plan(self, guest: Guest) -> Plan:
        """Return the configuration for a guest without changing anything.

        Raises:
            UsageError: this kind does not support the attachment, or a value is unsafe.
        """

    def require(self, guest: Guest) -> None:
        """Check that the guest exists before anything is added for it.

        Raises:
            GuestUnavailable: the guest does not exist, or its hypervisor does not answer.
            PermissionRefused: this user has no access.
        """

    def owner(self, guest: Guest) -> tuple[int | None, int | None]:
        """Return the uid and gid that need access to the guest's socket.

        None means the broker's own. If the guest's root is unprivileged, return its IDs on the
        host.

        Raises:
            GuestUnavailable: the IDs cannot be determined.
        """

    def apply(self, guest: Guest) -> list[Change]:
        """Apply the plan and return the changes; empty if nothing had to change.

        Raises:
            GuestUnavailable: the guest does not exist, or its hypervisor fails or refuses.
            PermissionRefused: this user cannot change the guest.
        """

    def remove(self, guest: Guest) -> list[Change]:
        """Undo `apply` and restore files byte for byte; same errors as `apply`."""

    def inside(self, guest: Guest) -> Inside | None:
        """Return a way to run programs in the guest, or None."""

    def audit(self) -> list[GuestFacts]:
        """Return every guest on this host; empty if the software is missing.

        Raises:
            GuestUnavailable: the software is installed but does not answer.
        """
