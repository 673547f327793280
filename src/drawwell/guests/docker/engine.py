"""Docker and Podman containers, managed with their command-line programs.

A mount cannot be added to an existing container. drawwell therefore writes a file that applies
when the container is next created: a compose override, or a block in a quadlet unit.
"""

import json
import os
from dataclasses import dataclass
from typing import Any, Final

from drawwell.errors import GuestUnavailable, PermissionRefused
from drawwell.guests import program
from drawwell.guests.container_facts import container_facts
from drawwell.guests.docker.plan import UNITS, compose, compose_name, options, plan, quadlet
from drawwell.guests.edit import files
from drawwell.guests.edit.quoting import INSIDE, NODE, container_name
from drawwell.guests.model import (
    NEW,
    Attachment,
    Change,
    Guest,
    GuestCommandResult,
    GuestFacts,
    GuestKind,
    Inside,
    Plan,
    unknown,
)

_HOME_UNITS: Final = "~/.config/containers/systemd"
_FOLDER_LABEL: Final = "com.docker.compose.project.working_dir"
_SERVICE_LABEL: Final = "com.docker.compose.service"
_DENIED: Final = ("permission denied", "operation not permitted")


@dataclass(frozen=True, slots=True)
class Found:
    """A container as reported by its engine."""

    name: str
    running: bool
    mounts: tuple[str, ...]
    """Paths of mounts and device nodes in the container."""
    folder: str
    """The directory of the container's compose project, or ""."""
    service: str


class Containers:
    """The containers of one engine.

    Args:
        kind: Docker or Podman.
        where: The engine's socket, or a project's or units' directory; "" for the default.
    """

    def __init__(self, kind: GuestKind, where: str = "") -> None:
        self._kind = kind
        self._folder = os.path.abspath(where) if os.path.isdir(where) else ""
        option = "--url" if kind is GuestKind.PODMAN else "--host"
        socket = "" if self._folder else where.removeprefix("unix://")
        self._engine = [str(kind), *([option, f"unix://{os.path.abspath(socket)}"] if socket else [])]

    def plan(self, guest: Guest) -> Plan:
        """Return options and files; see Hypervisor."""
        return plan(guest)

    def require(self, guest: Guest) -> None:
        """Check that a container or unit exists, unless a directory is given."""
        if not (self._folder or self._unit(guest) or self._found(guest)):
            name = container_name(guest)
            raise unknown(f"{self._kind} has no container {name}", name, self._names(), NEW)

    def owner(self, guest: Guest) -> tuple[int | None, int | None]:
        """Return the host IDs of a container's root; see Hypervisor."""
        container_name(guest)
        if self._kind is GuestKind.PODMAN:
            return (None, None) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
        root = self._output("info", "--format", "{{.DockerRootDir}}").strip()
        return _remapped(os.path.basename(root))

    def apply(self, guest: Guest) -> list[Change]:
        """Write the file that applies when the container is next created."""
        if unit := self._unit(guest):
            changes = files.put_block(unit, files.read(unit), quadlet(guest))
            return _with_restart(
                changes, f"systemctl daemon-reload, then systemctl restart {guest.target}.service"
            )
        found = None if self._folder else self._found(guest)
        if folder := self._folder or (found.folder if found else ""):
            service = (found.service if found else "") or container_name(guest)
            changes = files.whole(os.path.join(folder, compose_name(guest)), compose(guest, service))
            return _with_restart(
                changes, f"in {folder}: docker compose -f compose.yaml -f {compose_name(guest)} up -d"
            )
        if found is None or _place(guest) in found.mounts:
            return []
        arguments = " ".join(options(guest))
        raise GuestUnavailable(
            f"container {found.name} lacks the mount or device, and an existing container cannot get one",
            hint=f"Remove the container, run this again with --new, and create the container with: {arguments}.",
        )

    def remove(self, guest: Guest) -> list[Change]:
        """Remove the file or the block; see Hypervisor."""
        if unit := self._unit(guest):
            return files.take_block(unit, files.read(unit), container_name(guest))
        folder = self._folder
        if not folder and (found := self._found(guest)):
            folder = found.folder
        return files.delete(os.path.join(folder, compose_name(guest))) if folder else []

    def inside(self, guest: Guest) -> Inside | None:
        """Return access with ``docker exec`` or ``podman exec``; see Hypervisor."""
        found = self._found(guest)
        return _EngineExec(self._engine, found.name if found else container_name(guest))

    def audit(self) -> list[GuestFacts]:
        """Return the containers; see Hypervisor."""
        listed = program.run([*self._engine, "ps", "--all", "--quiet", "--no-trunc"])
        if listed.status == program.MISSING:
            return []
        names = self._answer(listed).split()
        return [
            container_facts(
                self._kind, each.name, running=each.running, ours=INSIDE in each.mounts or NODE in each.mounts
            )
            for each in (self._inspect(names) if names else [])
        ]

    def _found(self, guest: Guest) -> Found | None:
        """Find the container; quadlet names it "systemd-" plus the unit's name."""
        name = container_name(guest)
        known = self._names()
        names = [each for each in (name, f"systemd-{name}") if each in known]
        return self._inspect(names[:1])[0] if names else None

    def _names(self) -> list[str]:
        return self._output("ps", "--all", "--format", "{{.Names}}").split()

    def _inspect(self, names: list[str]) -> list[Found]:
        text = self._output("container", "inspect", *names)
        try:
            return [_read(each) for each in json.loads(text)]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise GuestUnavailable(f"{self._kind} described a container in an unknown format") from error

    def _unit(self, guest: Guest) -> str:
        """Return the path of the container's quadlet unit, or ""."""
        if self._kind is not GuestKind.PODMAN:
            return ""
        usual = UNITS if os.geteuid() == 0 else os.path.expanduser(_HOME_UNITS)
        path = os.path.join(self._folder or usual, f"{container_name(guest)}.container")
        return path if os.path.exists(path) else ""

    def _output(self, *arguments: str) -> str:
        return self._answer(program.run([*self._engine, *arguments]))

    def _answer(self, outcome: GuestCommandResult) -> str:
        if not outcome.status:
            return outcome.output.decode("utf-8", "replace")
        reason = program.last_line(outcome)
        if any(each in reason.lower() for each in _DENIED):
            raise PermissionRefused(
                f"{self._kind} denied access: {reason}", hint="Run this as root or as a member of its group."
            )
        raise GuestUnavailable(
            f"{self._kind} does not answer: {reason}", hint=f"Install or start {self._kind}."
        )


@dataclass(frozen=True, slots=True)
class _EngineExec:
    engine: list[str]
    name: str

    def run(self, argv: list[str], *, stdin: bytes = b"", timeout_s: float = 30.0) -> GuestCommandResult:
        """Run a program as the container's root; see Inside."""
        command = [*self.engine, "exec", "--interactive", "--user", "0", self.name, *argv]
        outcome = program.run(command, stdin=stdin, timeout_s=timeout_s)
        if outcome.status in _NOT_RUN and outcome.errors.lower().startswith(_ENGINE_ERRORS):
            raise GuestUnavailable(
                f"cannot run a program in container {self.name}: {program.last_line(outcome)}",
                hint=f"Start the container with '{self.engine[0]} start {self.name}'.",
            )
        return outcome


_NOT_RUN: Final = frozenset({1, 125, 126, program.MISSING})
"""Exit statuses if the program was not started (docker-run(1), podman-exec(1))."""
_ENGINE_ERRORS: Final = (
    "error",
    "permission denied",
    "cannot connect",
    "docker is not",
    "podman is not",
    "oci runtime",
)


def _read(described: dict[str, Any]) -> Found:
    labels = described["Config"].get("Labels") or {}
    mounts = [str(each["Destination"]) for each in described.get("Mounts") or ()]
    devices = [str(each["PathInContainer"]) for each in described["HostConfig"].get("Devices") or ()]
    return Found(
        name=str(described["Name"]).lstrip("/"),
        running=bool(described["State"]["Running"]),
        mounts=tuple(mounts + devices),
        folder=str(labels.get(_FOLDER_LABEL, "")),
        service=str(labels.get(_SERVICE_LABEL, "")),
    )


def _remapped(folder: str) -> tuple[int | None, int | None]:
    """Parse a userns-remap directory's name, which ends in ``UID.GID``."""
    uid, dot, gid = folder.partition(".")
    return (int(uid), int(gid)) if dot and uid.isdecimal() and gid.isdecimal() else (None, None)


def _place(guest: Guest) -> str:
    return INSIDE if guest.via is Attachment.SOCKET else NODE


def _with_restart(changes: list[Change], command: str) -> list[Change]:
    return [*changes, Change("takes effect when the container is created again", command)] if changes else []
