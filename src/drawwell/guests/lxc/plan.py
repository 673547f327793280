"""What LXC is told (lxc.container.conf(5)): the keys of a container's configuration, and a hook. Pure."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from drawwell.guests.edit.block import Block
from drawwell.guests.edit.quoting import (
    ACM,
    DIALOUT,
    DIRECT,
    INSIDE,
    NODE,
    ONE_READER,
    SHARED,
    container_name,
    plain_path,
    socket_directory,
    stick,
    stick_rule,
)
from drawwell.guests.model import Attachment, Guest, GuestKind, Piece, Plan

HOOK: Final = "drawwell-autodev"
"""The hook's file, in the container's directory."""
RUN: Final = "lxc.mount.entry = tmpfs run tmpfs nosuid,nodev,mode=755,size=20%,create=dir 0 0"
"""systemd mounts /run itself, over whatever was mounted below it, unless it finds /run mounted."""
_RUN_MOUNTED: Final = re.compile(r"\S+\s+/?run\s")
_ID_MAP: Final = re.compile(r"([ugb])\s+(\d+)\s+(\d+)\s+(\d+)\s*")
_DEEPEST_INCLUDE: Final = 8


@dataclass(frozen=True, slots=True)
class Container:
    """What a plan needs to know of a container; the defaults are those of a new, privileged one.

    `uid` and `gid` are who its root is out here, None when that is root; `run_mounted`: its configuration mounts /run;
    `closed`: its device cgroup denies what is not allowed; `rule` is the device as the cgroup names it.
    """

    directory: str
    uid: int | None = None
    gid: int | None = None
    run_mounted: bool = False
    closed: bool = True
    rule: str = ACM


def container_of(directory: str, config: str, include: Callable[[str], str], rule: str = ACM) -> Container:
    """Read what a plan needs to know from a container's configuration without our block.

    `include` returns the text of what is included by that path, "" where it is not there.
    """
    ids: dict[str, int] = {}
    denied: set[str] = set()
    run_mounted = False
    for key, value in _keys(config, include):
        if key in {"lxc.idmap", "lxc.id_map"}:
            ids |= _root_of(value)
        elif key in {"lxc.cgroup.devices.deny", "lxc.cgroup2.devices.deny"}:
            (denied.add if value in {"a", "a *:* rwm"} else denied.discard)(key)
        elif key == "lxc.mount.entry":
            run_mounted |= bool(_RUN_MOUNTED.match(value))
    return Container(directory, ids.get("u"), ids.get("g"), run_mounted, bool(denied), rule)


def _keys(config: str, include: Callable[[str], str], depth: int = 0) -> Iterator[tuple[str, str]]:
    for line in config.split("\n"):
        key, equals, value = (each.strip() for each in line.partition("="))
        if not equals or key.startswith("#"):
            continue
        if key == "lxc.include" and depth < _DEEPEST_INCLUDE:
            yield from _keys(include(value), include, depth + 1)
        else:
            yield key, value


def _root_of(id_map: str) -> dict[str, int]:
    """Who number 0 in there is out here, for users and groups."""
    parts = _ID_MAP.fullmatch(id_map)
    if not parts or int(parts[2]) != 0 or int(parts[4]) == 0:
        return {}
    return {each: int(parts[3]) for each in ("ug" if parts[1] == "b" else parts[1])}


def plan(guest: Guest, container: Container) -> Plan:
    """Return the block for the configuration, and the hook or the rule that goes with it.

    Raises:
        UsageError: a name or a path cannot be written safely.
    """
    config = plain_path(f"{container.directory}/config")
    pieces = [Piece("LXC configuration", config, block(guest, container).text())]
    if hook := hook_of(guest, container):
        pieces.append(hook)
    if rule := rule_of(guest, container):
        pieces.append(rule)
    return Plan(guest.name, GuestKind.LXC, guest.via, tuple(pieces), _notes(guest, container))


def block(guest: Guest, container: Container) -> Block:
    """Return the block for the configuration; raises as `plan`."""
    name = container_name(guest)
    keys = (
        _socket_keys(guest, container) if guest.via is Attachment.SOCKET else _device_keys(guest, container)
    )
    return Block("lxc", name, tuple(keys))


def hook_of(guest: Guest, container: Container) -> Piece | None:
    """Return the script that makes the node when the container starts; None where it cannot or need not."""
    if guest.via is not Attachment.DEVICE or container.uid is not None or guest.device:
        return None
    text = _HOOK.format(name=container_name(guest), node=NODE, dialout=DIALOUT)
    return Piece("autodev hook, mode 755", f"{plain_path(container.directory)}/{HOOK}", text)


def rule_of(guest: Guest, container: Container) -> Piece | None:
    """Return the udev rule that makes the link which is mounted, and gives the stick to the container's root."""
    if guest.via is not Attachment.DEVICE or container.uid is None or guest.device:
        return None
    return stick_rule(container.uid)


def _socket_keys(guest: Guest, container: Container) -> list[str]:
    return [*([] if container.run_mounted else [RUN]), socket_mount(guest)]


def socket_mount(guest: Guest) -> str:
    """Return the key that mounts the socket's directory; when that is missing, the container starts without."""
    return f"lxc.mount.entry = {socket_directory(guest)} {INSIDE[1:]} none bind,ro,create=dir,optional 0 0"


def _device_keys(guest: Guest, container: Container) -> list[str]:
    # an allow key where nothing is denied would close the container to all other devices (cgroup v2, seen with LXC 5.0)
    generations = ("cgroup2", "cgroup") if container.closed else ()
    allow = [f"lxc.{each}.devices.allow = {container.rule} rwm" for each in generations]
    if hook := hook_of(guest, container):
        return [*allow, "lxc.autodev = 1", f"lxc.hook.autodev = {hook.into}"]
    return [*allow, f"lxc.mount.entry = {stick(guest)} {NODE[1:]} none bind,create=file,optional 0 0"]


def _notes(guest: Guest, container: Container) -> tuple[str, ...]:
    again = _AGAIN.format(name=guest.target)
    if guest.via is Attachment.SOCKET:
        return (SHARED, DIRECT, _DIRECTORY, again, *([] if container.run_mounted else [_RUN]))
    notes = [SHARED, ONE_READER, _REPLUGGED, again]
    if container.uid is not None:
        notes.append(_UNPRIVILEGED.format(device=stick(guest), uid=container.uid))
    if not container.closed:
        notes.append(_OPEN)
    return tuple(notes)


_DIRECTORY: Final = (
    "The socket's directory is mounted and not the socket: a broker that is started again makes a new socket, and the "
    "container sees it. When the directory is missing as the container starts, it starts without."
)
_RUN: Final = (
    "/run is mounted as well: systemd in the container would mount its own over our directory otherwise."
)
_AGAIN: Final = (
    "A container that runs gets it when it is started again: lxc-stop -n {name}, then lxc-start -n {name}."
)
_REPLUGGED: Final = (
    "The stick is looked for when the container starts, by what it is and never by its number. After it was plugged in "
    "again under another number, start the container again."
)
_UNPRIVILEGED: Final = (
    "The container is unprivileged and can make no node, so {device} is mounted; out here it must belong to user "
    "{uid}, who is root in there. The socket is simpler."
)
_OPEN: Final = (
    "Its device cgroup denies nothing, so no allow key is written: with cgroup v2 a single one would close the "
    "container to all other devices, /dev/null among them."
)
_HOOK: Final = """\
#!/bin/sh
# drawwell: makes {node} in container {name} as it starts, from the stick, whatever number that has today.
# LXC runs it before the root is changed: /sys is still the host's, LXC_ROOTFS_MOUNT is the container's.
set -u
number=
for id in /sys/bus/usb/devices/*/idVendor; do
    usb=${{id%/idVendor}}
    [ "$(cat "$id" 2>/dev/null):$(cat "$usb/idProduct" 2>/dev/null)" = 1d50:6086 ] || continue
    for dev in "$usb"/*:*/tty/*/dev; do
        [ -e "$dev" ] && number=$(cat "$dev") && break 2
    done
done
if [ -z "$number" ]; then
    echo "drawwell: no OneRNG is plugged in: {name} starts without {node}" >&2
    exit 0
fi
node="$LXC_ROOTFS_MOUNT{node}"
rm -f "$node"
mknod -m 660 "$node" c "${{number%:*}}" "${{number#*:}}"
chgrp {dialout} "$node"
"""
