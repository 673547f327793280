"""Pure: the plan for LXC (keys, see lxc.container.conf(5), and a hook)."""

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
"""The file name of the hook in the container's directory."""
RUN: Final = "lxc.mount.entry = tmpfs run tmpfs nosuid,nodev,mode=755,size=20%,create=dir 0 0"
"""Prevents systemd from mounting its own /run over our directory."""
_RUN_MOUNTED: Final = re.compile(r"\S+\s+/?run\s")
_ID_MAP: Final = re.compile(r"([ugb])\s+(\d+)\s+(\d+)\s+(\d+)\s*")
_DEEPEST_INCLUDE: Final = 8


@dataclass(frozen=True, slots=True)
class Container:
    """The properties of a container that affect the plan.

    The defaults are for a new, privileged container. `uid` and `gid` are its root's IDs on the
    host; None for root. `run_mounted`: /run is mounted. `closed`: the cgroup denies devices.
    """

    directory: str
    uid: int | None = None
    gid: int | None = None
    run_mounted: bool = False
    closed: bool = True
    rule: str = ACM


def container_of(directory: str, config: str, include: Callable[[str], str], rule: str = ACM) -> Container:
    """Parse a container's configuration; ignore our block.

    `include` returns the text of an included path, or "" if the path is missing.
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
    """Return the host's uid and gid for ID 0."""
    parts = _ID_MAP.fullmatch(id_map)
    if not parts or int(parts[2]) != 0 or int(parts[4]) == 0:
        return {}
    return {each: int(parts[3]) for each in ("ug" if parts[1] == "b" else parts[1])}


def plan(guest: Guest, container: Container) -> Plan:
    """Return the block for the configuration, with a hook or udev rule.

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
    """Return the block for the configuration; same errors as `plan`."""
    name = container_name(guest)
    keys = (
        _socket_keys(guest, container) if guest.via is Attachment.SOCKET else _device_keys(guest, container)
    )
    return Block("lxc", name, tuple(keys))


def hook_of(guest: Guest, container: Container) -> Piece | None:
    """Return the script that creates the device node at start, if needed."""
    if guest.via is not Attachment.DEVICE or container.uid is not None or guest.device:
        return None
    text = _HOOK.format(name=container_name(guest), node=NODE, dialout=DIALOUT)
    return Piece("autodev hook, mode 755", f"{plain_path(container.directory)}/{HOOK}", text)


def rule_of(guest: Guest, container: Container) -> Piece | None:
    """Return the udev rule that gives a stick to the container's root user."""
    if guest.via is not Attachment.DEVICE or container.uid is None or guest.device:
        return None
    return stick_rule(container.uid)


def _socket_keys(guest: Guest, container: Container) -> list[str]:
    return [*([] if container.run_mounted else [RUN]), socket_mount(guest)]


def socket_mount(guest: Guest) -> str:
    """Return the key that mounts the socket's directory if it exists."""
    return f"lxc.mount.entry = {socket_directory(guest)} {INSIDE[1:]} none bind,ro,create=dir,optional 0 0"


def _device_keys(guest: Guest, container: Container) -> list[str]:
    # cgroup v2: if nothing is denied, an allow key would block all other devices (LXC 5.0)
    generations = ("cgroup2", "cgroup") if container.closed else ()
    allow = [f"lxc.{each}.devices.allow = {container.rule} rwm" for each in generations]
    if hook := hook_of(guest, container):
        return [*allow, "lxc.autodev = 1", f"lxc.hook.autodev = {hook.into}"]
    return [*allow, f"lxc.mount.entry = {stick(guest)} {NODE[1:]} none bind,create=file,optional 0 0"]


def _notes(guest: Guest, container: Container) -> tuple[str, ...]:
    again = _AGAIN.format(name=guest.target)
    if guest.via is Attachment.SOCKET:
        return (SHARED, DIRECT, DIRECTORY, again, *([] if container.run_mounted else [RUN_NOTE]))
    notes = [SHARED, ONE_READER, _REPLUGGED, again]
    if container.uid is not None:
        notes.append(_UNPRIVILEGED.format(device=stick(guest), uid=container.uid))
    if not container.closed:
        notes.append(_OPEN)
    return tuple(notes)


DIRECTORY: Final = (
    "The directory is mounted, not the socket, so the container also sees the new socket of a restarted broker. If "
    "the directory is missing, the container starts without it."
)
RUN_NOTE: Final = (
    "/run is also mounted. Otherwise systemd in the container would mount its own /run over our directory."
)
_AGAIN: Final = "Restart a running container to apply this: lxc-stop -n {name}, then lxc-start -n {name}."
_REPLUGGED: Final = (
    "LXC finds the stick by vendor and product when the container starts, not by its number. If the stick was "
    "unplugged and has another number, restart the container."
)
_UNPRIVILEGED: Final = (
    "The container is unprivileged and cannot create a node, so {device} is mounted. On the host, its owner must "
    "be user {uid}, the container's root. The socket is simpler."
)
_OPEN: Final = (
    "The container's device cgroup denies nothing, so no allow key is written. With cgroup v2, one allow key would "
    "deny the container all other devices, even /dev/null."
)
_HOOK: Final = """\
#!/bin/sh
# drawwell: makes {node} in container {name} at every start, whatever the stick's number.
# LXC runs it before pivot_root: /sys is still the host's, LXC_ROOTFS_MOUNT is the container's.
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
