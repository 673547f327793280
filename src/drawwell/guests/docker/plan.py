"""Pure: the plan for Docker and Podman (options, compose file, quadlet).

Sources: docker-run(1), podman-run(1), podman-systemd.unit(5); volumes and devices in
https://github.com/compose-spec/compose-spec.
"""

import json
import shlex
from typing import Final

from drawwell.guests.edit.block import Block
from drawwell.guests.edit.quoting import (
    DIRECT,
    INSIDE,
    NODE,
    ONE_READER,
    SHARED,
    container_name,
    socket_directory,
    stick,
    stick_rule,
)
from drawwell.guests.model import Attachment, Guest, GuestKind, Piece, Plan

UNITS: Final = "/etc/containers/systemd"
"""The directory where quadlet looks for root's units (podman-systemd.unit(5))."""
SERVICE: Final = "drawwell-broker.service"


def options(guest: Guest) -> list[str]:
    """Return the options for ``docker run`` and ``podman run``.

    Raises:
        UsageError: a path cannot be written safely.
    """
    if guest.via is Attachment.SOCKET:
        return ["--mount", f"type=bind,source={socket_directory(guest)},target={INSIDE},readonly"]
    return ["--device", f"{stick(guest, colon=False)}:{NODE}"]


def compose_name(guest: Guest) -> str:
    """Return the file name of the compose override."""
    return f"drawwell-{container_name(guest)}.yaml"


def compose(guest: Guest, service: str) -> str:
    """Return the override as YAML with JSON strings; same errors as `options`."""
    return (
        f"# drawwell: guest {container_name(guest)}; an override of the project's compose file:\n"
        f"# docker compose -f compose.yaml -f {compose_name(guest)} up -d\n"
        f"services:\n  {json.dumps(service)}:\n{_service(guest)}"
    )


def _service(guest: Guest) -> str:
    if guest.via is Attachment.DEVICE:
        return f"    devices:\n      - {json.dumps(f'{stick(guest, colon=False)}:{NODE}')}\n"
    # create_host_path: otherwise Docker creates a missing directory itself, owned by root
    return (
        "    volumes:\n      - type: bind\n"
        f"        source: {json.dumps(socket_directory(guest))}\n        target: {json.dumps(INSIDE)}\n"
        "        read_only: true\n        bind:\n          create_host_path: false\n"
    )


def quadlet(guest: Guest) -> Block:
    """Return the lines for a ``.container`` unit; sections may be repeated."""
    if guest.via is Attachment.DEVICE:
        # "-": mount the stick only if it is plugged in
        keys: tuple[str, ...] = ("[Container]", f"AddDevice=-{stick(guest, colon=False)}:{NODE}")
    else:
        order = ("[Unit]", f"Wants={SERVICE}", f"After={SERVICE}")
        keys = (*order, "[Container]", f"Volume={socket_directory(guest)}:{INSIDE}:ro")
    return Block("podman", container_name(guest), keys)


def plan(guest: Guest) -> Plan:
    """Return the options and a file with them; same errors as `options`."""
    name = container_name(guest)
    run = shlex.join([str(guest.kind), "run", "--name", name, *options(guest)])
    pieces = [Piece(f"{guest.kind} run", "paste", f"{run} IMAGE\n")]
    if guest.kind is GuestKind.PODMAN:
        pieces.append(Piece("quadlet unit", f"{UNITS}/{name}.container", quadlet(guest).text()))
    else:
        pieces.append(Piece("compose file", compose_name(guest), compose(guest, name)))
    if guest.via is Attachment.DEVICE and not guest.device:
        pieces.append(stick_rule())
    node = _NODE_OF_PODMAN if guest.kind is GuestKind.PODMAN else _NODE
    notes = (DIRECT, _DIRECTORY) if guest.via is Attachment.SOCKET else (ONE_READER, node)
    return Plan(guest.name, guest.kind, guest.via, tuple(pieces), (SHARED, *notes, _AGAIN))


_DIRECTORY: Final = (
    "The directory is mounted, not the socket, so the container also sees the new socket of a restarted broker. "
    "The directory must exist when the container starts. 'drawwell guest apply' creates it, and so does the broker "
    "at every boot."
)
_NODE: Final = (
    "Docker finds the stick by its link at every start. If the stick was unplugged and has another number, restart "
    "the container. The socket is better, because it needs no device in the container."
)
_NODE_OF_PODMAN: Final = (
    "Podman finds the stick by its link when it creates the container, which a quadlet unit does at every start. If "
    "the stick was unplugged and has another number, create the container again. The socket is better: no device."
)
_AGAIN: Final = "An existing container cannot get a mount or a device: create it again from the same image."
