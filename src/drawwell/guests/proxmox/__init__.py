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
from drawwell.guests.qemu import plan as plan_qemu
from drawwell.guests.qemu.agent import Agent

CONFIGS: Final = "/etc/pve/qemu-server"
SOCKETS: Final = "/var/run/qemu-server"
_ID: Final = re.compile(r"[1-9][0-9]{2,8}", re.ASCII)
_ARGS: Final = re.compile(r"args:[ \t]*(.*)")
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
        piece = Piece(
            "arguments of its QEMU", f"qm set {number} --args", self._with_ours(guest, config) + "\n"
        )
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
        return self._set(guest, _args(config), self._with_ours(guest, config))

    def remove(self, guest: Guest) -> list[Change]:
        """See `Hypervisor`."""
        old = _args(self._config(guest))
        return self._set(guest, old, _without(old, guest))

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

    def _with_ours(self, guest: Guest, config: str) -> str:
        others = _without(_args(config), guest)
        arguments = plan_qemu.plan(guest).pieces[0].text.replace("\\\n", "").strip()
        tokens = [
            token for pair in _pairs(shlex.split(arguments)) if "vmgenid" not in pair[1] for token in pair
        ]
        return shlex.join([*shlex.split(others), *tokens])  # Proxmox adds vmgenid itself

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
    found = (_ARGS.fullmatch(line) for line in _current(config))
    return next((match[1].strip() for match in found if match), "")


def _pairs(tokens: list[str]) -> list[tuple[str, str]]:
    return [(flag, value) for flag, value in zip(tokens[::2], tokens[1::2], strict=False)]


def _without(args: str, guest: Guest) -> str:
    """Return the arguments without those that contain this guest's IDs."""
    tokens = shlex.split(args)
    ours = {f"id={plan_qemu.identifier(guest)}", f"id={plan_qemu.seed_identifier(guest)}"}
    kept: list[str] = []
    for token in tokens:
        if ours & set(token.split(",")) and kept:
            kept.pop()  # the flag
        else:
            kept.append(token)
    return shlex.join(kept) if len(kept) != len(tokens) else args


def hypervisor(where: str = "") -> Hypervisor:
    """Return Proxmox's machines; `where` is the directory of configurations."""
    return Proxmox(where)
