"""Pure: containers of Proxmox VE, which their owner has to configure.

pct.conf(5): ``/etc/pve/lxc/ID.conf`` has lines ``key: value`` above the snapshots, which start
with ``[NAME]``. Proxmox moves comments in it, so a marked block would not survive. At each
start, Proxmox writes LXC's own file again.
"""

import re
from typing import Final

from drawwell.errors import GuestUnavailable, UsageError
from drawwell.guests.edit.quoting import DIRECT, SHARED
from drawwell.guests.lxc.plan import DIRECTORY, RUN, RUN_NOTE, Container, block, socket_mount
from drawwell.guests.model import Attachment, Guest, GuestKind, Piece, Plan

CONFIGS: Final = "/etc/pve/lxc"
_KEY: Final = re.compile(r"(lxc\.[a-z0-9_.-]+)(?::|\s*=)\s*(.*?)\s*", re.ASCII)
_UNPRIVILEGED: Final = re.compile(r"unprivileged:\s*1\s*", re.ASCII)
_ID_MAPS: Final = ("lxc.idmap = u 0 100000 65536", "lxc.idmap = g 0 100000 65536")
"""Proxmox's mapping for unprivileged containers (PVE::LXC, parse_id_maps)."""
_AGAIN: Final = (
    "Proxmox moves comments in this file, so drawwell does not write to it: add the lines yourself, above any "
    "snapshot ([NAME]). Then run 'drawwell guest apply', which adds the guest to the broker, and 'pct reboot {}'."
)


def as_lxc(config: str) -> str:
    """Return the current settings in LXC's format."""
    current = config.partition("\n[")[0].splitlines()
    keys = [f"{found[1]} = {found[2]}" for line in current if (found := _KEY.fullmatch(line))]
    mapped = any(each.startswith("lxc.idmap") for each in keys)
    maps = _ID_MAPS if any(map(_UNPRIVILEGED.fullmatch, current)) and not mapped else ()
    return "\n".join([*maps, *keys, ""])


def plan(guest: Guest, container: Container, path: str) -> Plan:
    """Return the lines for Proxmox's file, with notes.

    Raises:
        UsageError: the attachment is the stick, or a path cannot be written safely.
    """
    text = "".join(f"{_as_proxmox(each)}\n" for each in _keys(guest, container))
    notes = (SHARED, DIRECT, DIRECTORY, *([] if container.run_mounted else [RUN_NOTE]))
    piece = Piece("configuration of the container in Proxmox", path, text)
    return Plan(guest.name, GuestKind.LXC, guest.via, (piece,), (*notes, _AGAIN.format(guest.target)))


def require_lines(guest: Guest, container: Container, path: str, config: str) -> None:
    """Check that the owner has added the plan's lines.

    Args:
        guest: The guest.
        container: The container as in `config`.
        path: Proxmox's file.
        config: The file in LXC's format.

    Raises:
        GuestUnavailable: a line is missing.
        UsageError: as for `plan`.
    """
    wanted = _keys(guest, container)
    if set(wanted) - _lines(config):
        lines = " and ".join(f"'{_as_proxmox(each)}'" for each in wanted)
        raise GuestUnavailable(
            f"{path} lacks the plan's lines, and drawwell does not write to this file",
            hint=f"Add {lines} to it, above any snapshot, and run this again. Then run 'pct reboot {guest.target}'.",
        )


def require_no_lines(guest: Guest, path: str, config: str) -> None:
    """Check that the owner has deleted the plan's lines.

    Raises:
        GuestUnavailable: a line is left.
        UsageError: a path cannot be written safely.
    """
    mount = socket_mount(guest)
    if mount in _lines(config):
        lines = " and ".join(f"'{_as_proxmox(each)}'" for each in (RUN, mount) if each in _lines(config))
        raise GuestUnavailable(
            f"{path} still has the plan's lines, and drawwell does not write to this file",
            hint=f"Delete {lines} from it, and run this again.",
        )


def _keys(guest: Guest, container: Container) -> tuple[str, ...]:
    if guest.via is Attachment.DEVICE:
        raise UsageError(
            "drawwell does not pass the stick to a container of Proxmox",
            hint=f"Use --via socket, or Proxmox's own 'pct set {guest.target} --dev0 PATH' (see pct(1)).",
        )
    return block(guest, container).keys


def _lines(config: str) -> set[str]:
    return {" ".join(line.split()) for line in config.splitlines()}


def _as_proxmox(key: str) -> str:
    return key.replace(" = ", ": ", 1)
