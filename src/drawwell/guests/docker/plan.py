"""What Docker and Podman are told: options, a compose file that is laid over another, lines of a quadlet unit. Pure.

docker-run(1), podman-run(1), podman-systemd.unit(5); https://github.com/compose-spec/compose-spec (volumes, devices).
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
"""Where quadlet looks for the units of root's containers (podman-systemd.unit(5))."""
SERVICE: Final = "drawwell-broker.service"


def options(guest: Guest) -> list[str]:
    """Return the options of ``docker run`` and ``podman run``.

    Raises:
        UsageError: a path cannot be written safely.
    """
    if guest.via is Attachment.SOCKET:
        return ["--mount", f"type=bind,source={socket_directory(guest)},target={INSIDE},readonly"]
    return ["--device", f"{stick(guest, colon=False)}:{NODE}"]


def compose_name(guest: Guest) -> str:
    """Return the name of the file that is laid over a project's own compose file."""
    return f"drawwell-{container_name(guest)}.yaml"


def compose(guest: Guest, service: str) -> str:
    """Return that file: YAML, whose strings are written as JSON's are; raises as `options`."""
    return (
        f"# drawwell: guest {container_name(guest)}; laid over the project's own file:\n"
        f"# docker compose -f compose.yaml -f {compose_name(guest)} up -d\n"
        f"services:\n  {json.dumps(service)}:\n{_service(guest)}"
    )


def _service(guest: Guest) -> str:
    if guest.via is Attachment.DEVICE:
        return f"    devices:\n      - {json.dumps(f'{stick(guest, colon=False)}:{NODE}')}\n"
    # create_host_path: without it Docker makes a missing directory itself, and it is root's
    return (
        "    volumes:\n      - type: bind\n"
        f"        source: {json.dumps(socket_directory(guest))}\n        target: {json.dumps(INSIDE)}\n"
        "        read_only: true\n        bind:\n          create_host_path: false\n"
    )


def quadlet(guest: Guest) -> Block:
    """Return the lines for a ``.container`` unit: a section that is there already goes on; raises as `options`."""
    if guest.via is Attachment.DEVICE:
        # "-": only where the stick is plugged in
        keys: tuple[str, ...] = ("[Container]", f"AddDevice=-{stick(guest, colon=False)}:{NODE}")
    else:
        order = ("[Unit]", f"Wants={SERVICE}", f"After={SERVICE}")
        keys = (*order, "[Container]", f"Volume={socket_directory(guest)}:{INSIDE}:ro")
    return Block("podman", container_name(guest), keys)


def plan(guest: Guest) -> Plan:
    """Return the options, and what goes into a file instead; see `options`."""
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
    "The socket's directory is mounted and not the socket: a broker that is started again makes a new socket, and the "
    "container sees it. The directory must be there when the container starts: 'drawwell guest apply' makes it, and "
    "the broker does at every boot."
)
_NODE: Final = (
    "The stick is looked for by its link at every start. After it was plugged in again under another number, start the "
    "container again. The socket is better: it needs no device in the container."
)
_NODE_OF_PODMAN: Final = (
    "The stick is looked for by its link when the container is made, which a quadlet unit does at every start. After "
    "it was plugged in again under another number, make it again. The socket is better: it needs no device."
)
_AGAIN: Final = "A container that exists can get neither: make it again, from the same image."
