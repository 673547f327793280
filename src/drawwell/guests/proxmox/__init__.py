"""Virtual machines of Proxmox VE: QEMU with arguments stored by ``qm``.

See qm(1). ``rng0`` accepts only three host paths, so our device is added to ``args``. The
guest agent of machine ID listens at /var/run/qemu-server/ID.qga.
"""

import os
import re
import shlex
from dataclasses import replace
from typing import Final

from drawwell.errors import GuestUnavailable, UsageError
from drawwell.guests import program
from drawwell.guests.cloud_init import two_disks
from drawwell.guests.edit import files
from drawwell.guests.model import Change, Guest, GuestFacts, GuestKind, Hypervisor, Inside, Piece, Plan
from drawwell.guests.proxmox.arguments import with_ours, without_ours
from drawwell.guests.qemu import plan as plan_qemu
from drawwell.guests.qemu.agent import Agent

CONFIGS: Final = "/etc/pve/qemu-server"
SOCKETS: Final = "/var/run/qemu-server"
_ID: Final = re.compile(r"[1-9][0-9]{2,8}", re.ASCII)
_ARGS: Final = re.compile(r"args:[ \t]*(.*)")
_DELETED: Final = re.compile(r"delete:(?:.*[ ,!])?args(?:,.*)?", re.ASCII)
_CLOUD_INIT: Final = re.compile(r"(?:ide|sata|scsi)\d+:.*cloudinit.*")
"""A drive with Proxmox's own cloud-init data (qm(1), "Cloud-Init")."""
_RNG0_NOTE: Final = (
    "the machine has Proxmox's own rng0, and its kernel reads only one generator: remove rng0 for as long as drawwell "
    "is used: qm set {} --delete rng0 ({})."
)
_NOTES: Final = (
    "The machine's other args are kept: --remove removes only ours, which have their own ids.",
    "A running machine gets the args at its next start (qm shutdown, qm start; a reboot in the guest is not enough).",
    "To migrate to another host in the cluster, set up a broker and this guest there too.",
)


class Proxmox:
    """A `Hypervisor` for the machines on this host.

    Args:
        configs: The directory of the machines' configurations; "" for Proxmox's own.
        sockets: The directory of the agents' sockets.
    """

    def __init__(self, configs: str = "", sockets: str = SOCKETS) -> None:
        self._configs = configs or CONFIGS
        self._sockets = sockets

    def plan(self, guest: Guest) -> Plan:
        """See `Hypervisor`."""
        number, config = self._number(guest), self._config(guest, needed=False)
        piece = Piece("arguments of its QEMU", f"qm set {number} --args", _planned(guest, config) + "\n")
        plan = plan_qemu.plan(guest)
        rng0 = next((line for line in _current(config) if line.startswith("rng0:")), "")
        notes = (*plan.notes, *_NOTES, *([_RNG0_NOTE.format(number, rng0)] if rng0 else []))
        return replace(plan, kind=GuestKind.PROXMOX, pieces=(piece, *plan.pieces[1:]), notes=notes)

    def require(self, guest: Guest) -> None:
        """See `Hypervisor`."""
        self._config(guest)

    def owner(self, guest: Guest) -> tuple[int | None, int | None]:
        """Return None for both IDs, because Proxmox runs QEMU as root."""
        del guest
        return None, None

    def apply(self, guest: Guest) -> list[Change]:
        """See `Hypervisor`."""
        config = self._config(guest)
        if guest.seed and any(map(_CLOUD_INIT.fullmatch, _current(config))):
            raise two_disks(f"machine {guest.target}")
        return self._set(guest, _args(config), _planned(guest, config))

    def remove(self, guest: Guest) -> list[Change]:
        """See `Hypervisor`."""
        old = _args(self._config(guest))
        return self._set(guest, old, without_ours(old, _ids(guest)))

    def inside(self, guest: Guest) -> Inside | None:
        """See `Hypervisor`: use the guest agent's socket (``agent: 1``)."""
        path = os.path.join(self._sockets, f"{self._number(guest)}.qga")
        return Agent.at_socket(path) if os.path.exists(path) else None

    def audit(self) -> list[GuestFacts]:
        """Return no guests, because `qemu` lists these machines."""
        return []

    def _set(self, guest: Guest, old: str, new: str) -> list[Change]:
        if old == new:
            return []
        number = self._number(guest)
        options = ["--args", new] if new else ["--delete", "args"]
        done = program.run(["qm", "set", number, *options])
        if done.status:
            raise GuestUnavailable(
                f"qm refused: {program.last_line(done)}", hint="Run this on the machine's host, as root."
            )
        return [Change(f"set the args of machine {number} for its next start", f"qm set {number}")]

    def _config(self, guest: Guest, *, needed: bool = True) -> str:
        number = self._number(guest)
        try:
            return files.read(os.path.join(self._configs, f"{number}.conf"))
        except GuestUnavailable:
            if not needed:
                return ""
            raise GuestUnavailable(
                f"this host has no machine {number}", hint="See 'qm list', and set the number with --domain."
            ) from None

    @staticmethod
    def _number(guest: Guest) -> str:
        if not _ID.fullmatch(guest.target):
            raise UsageError(f"{guest.target!r} is not a machine's number", hint="Set it with --domain 101.")
        return guest.target


def _current(config: str) -> list[str]:
    """Return the machine's current settings, without those of its snapshots."""
    return config.partition("\n[")[0].splitlines()


def _args(config: str) -> str:
    """Return the args of the next start, which may be in [PENDING]."""
    pending = config.partition("\n[PENDING]\n")[2].partition("\n[")[0].splitlines()
    for line in [*pending, *_current(config)]:
        if found := _ARGS.fullmatch(line):
            return found[1]
        if _DELETED.fullmatch(line):
            return ""
    return ""


def _planned(guest: Guest, config: str) -> str:
    """Return the args with our options, each of which has one of our IDs."""
    ours: list[str] = []
    planned = shlex.split(plan_qemu.plan(guest).pieces[0].text.replace("\\\n", ""))
    for flag, value in zip(planned[::2], planned[1::2], strict=True):
        if (flag, value) in plan_qemu.GENERATION:
            continue  # Proxmox adds vmgenid itself
        ours += [flag, f"{value},id={_controller(guest)}" if value == plan_qemu.CONTROLLER else value]
    return with_ours(without_ours(_args(config), _ids(guest)), shlex.join(ours))


def _controller(guest: Guest) -> str:
    return f"usb-{plan_qemu.identifier(guest)}"


def _ids(guest: Guest) -> set[str]:
    return {plan_qemu.identifier(guest), plan_qemu.seed_identifier(guest), _controller(guest)}


def hypervisor(where: str = "") -> Hypervisor:
    """Return Proxmox's machines; `where` is the directory of configurations."""
    return Proxmox(where)
