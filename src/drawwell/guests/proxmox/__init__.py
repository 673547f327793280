"""Virtual machines of Proxmox VE: QEMU, whose arguments ``qm`` keeps.

qm(1): ``rng0`` takes three paths of the host and nothing else, so ours goes by ``args``. The
guest agent of machine ID is at /var/run/qemu-server/ID.qga.
"""

import os
import re
import shlex
from dataclasses import replace
from typing import Final

from drawwell.errors import GuestUnavailable, UsageError
from drawwell.guests import program
from drawwell.guests.edit import files
from drawwell.guests.model import Change, Guest, GuestFacts, GuestKind, Hypervisor, Inside, Piece, Plan
from drawwell.guests.qemu import plan as plan_qemu
from drawwell.guests.qemu.agent import Agent

CONFIGS: Final = "/etc/pve/qemu-server"
SOCKETS: Final = "/var/run/qemu-server"
_ID: Final = re.compile(r"[1-9][0-9]{2,8}", re.ASCII)
_ARGS: Final = re.compile(r"args:[ \t]*(.*)")
_RNG0_NOTE: Final = (
    "the machine has Proxmox's own rng0, and its kernel reads one generator only: take that out "
    "until --remove: qm set {} --delete rng0 ({})."
)
_NOTES: Final = (
    "args of its own that the machine has are kept: ours are known by their ids, and --remove takes only those out.",
    "A machine that runs has them at its next start (qm shutdown, qm start; a reboot in the guest is none).",
    "Migration to another host of the cluster needs a broker and this guest there, too.",
)


class Proxmox:
    """A `Hypervisor` for the machines of this host.

    Args:
        configs: Where Proxmox keeps their configurations; "" is its own place.
        sockets: Where its machines' agents are.
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
        """Return none: Proxmox runs QEMU as root."""
        del guest
        return None, None

    def apply(self, guest: Guest) -> list[Change]:
        """See `Hypervisor`."""
        config = self._config(guest)
        return self._set(guest, _args(config), self._with_ours(guest, config))

    def remove(self, guest: Guest) -> list[Change]:
        """See `Hypervisor`."""
        old = _args(self._config(guest))
        return self._set(guest, old, _without(old, guest))

    def inside(self, guest: Guest) -> Inside | None:
        """See `Hypervisor`: by the agent's socket (``agent: 1``)."""
        path = os.path.join(self._sockets, f"{self._number(guest)}.qga")
        return Agent.at_socket(path) if os.path.exists(path) else None

    def audit(self) -> list[GuestFacts]:
        """Return nothing: `qemu` shows these machines among the others."""
        return []

    def _set(self, guest: Guest, old: str, new: str) -> list[Change]:
        if old == new:
            return []
        number = self._number(guest)
        options = ["--args", new] if new else ["--delete", "args"]
        done = program.run(["qm", "set", number, *options])
        if done.status:
            raise GuestUnavailable(
                f"qm refuses: {program.last_line(done)}", hint="Run it on the machine's own host, as root."
            )
        return [Change(f"set the args of machine {number}, from its next start on", f"qm set {number}")]

    def _with_ours(self, guest: Guest, config: str) -> str:
        others = _without(_args(config), guest)
        arguments = plan_qemu.plan(guest).pieces[0].text.replace("\\\n", "").strip()
        tokens = [
            token for pair in _pairs(shlex.split(arguments)) if "vmgenid" not in pair[1] for token in pair
        ]
        return shlex.join([*shlex.split(others), *tokens])  # Proxmox has vmgenid by itself

    def _config(self, guest: Guest, *, needed: bool = True) -> str:
        number = self._number(guest)
        try:
            return files.read(os.path.join(self._configs, f"{number}.conf"))
        except GuestUnavailable:
            if not needed:
                return ""
            raise GuestUnavailable(
                f"this host has no machine {number}", hint="'qm list' names them; --domain takes the number."
            ) from None

    @staticmethod
    def _number(guest: Guest) -> str:
        if not _ID.fullmatch(guest.target):
            raise UsageError(f"{guest.target!r} is no number of a machine", hint="Name it: --domain 101.")
        return guest.target


def _current(config: str) -> list[str]:
    """Return the machine's own lines: sections of snapshots follow."""
    return config.partition("\n[")[0].splitlines()


def _args(config: str) -> str:
    found = (_ARGS.fullmatch(line) for line in _current(config))
    return next((match[1].strip() for match in found if match), "")


def _pairs(tokens: list[str]) -> list[tuple[str, str]]:
    return [(flag, value) for flag, value in zip(tokens[::2], tokens[1::2], strict=False)]


def _without(args: str, guest: Guest) -> str:
    """Return the arguments without those of this guest's ids."""
    tokens, ours = shlex.split(args), f"id={plan_qemu.identifier(guest)}"
    kept: list[str] = []
    for token in tokens:
        if ours in token.split(",") and kept:
            kept.pop()  # its flag
        else:
            kept.append(token)
    return shlex.join(kept) if len(kept) != len(tokens) else args


def hypervisor(where: str = "") -> Hypervisor:
    """Return Proxmox's machines; `where` has their configurations."""
    return Proxmox(where)
