"""Containers of systemd-nspawn and machinectl, by their settings files.

systemd.nspawn(5): /etc/systemd/nspawn/NAME.nspawn is read when the container starts.
"""

import os
from dataclasses import dataclass
from typing import Final

from drawwell.errors import GuestUnavailable
from drawwell.guests import program
from drawwell.guests.container_facts import container_facts
from drawwell.guests.edit import files
from drawwell.guests.edit.block import Block, has_block, with_block, without_block
from drawwell.guests.edit.quoting import DIRECT, INSIDE, SHARED, container_name, socket_directory
from drawwell.guests.model import (
    NEW,
    Change,
    Guest,
    GuestCommandResult,
    GuestFacts,
    GuestKind,
    Hypervisor,
    Inside,
    Piece,
    Plan,
    unknown,
)

SETTINGS: Final = "/etc/systemd/nspawn"
MACHINES: Final = "/var/lib/machines"
_PATH: Final = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""The host's own environment would name programs that the container has not."""
_PROGRAM: Final = "systemd-nspawn"
_SHIFTED: Final = 65_536
"""Private users of nspawn begin above it, at multiples of it."""
_DIRECTORY: Final = (
    "The socket's directory is mounted, not the socket: a restarted broker makes a new socket, "
    "and the container sees it. Without the directory the container does not start."
)
_AGAIN: Final = "A container that runs gets it at its next start: machinectl reboot NAME."
_OPTIONS: Final = (
    "systemd-nspawn ignores the mounts of its settings if its command line has --bind or "
    "--bind-ro: add the mount there, as --bind-ro={}:{}."
)
_PRIVATE: Final = (
    "With private users (machinectl start) the container's root is another user out here. It is "
    "found while the container runs, or by the owner of its files: apply once more after its "
    "first start, or add --user."
)


class Nspawn:
    """A `Hypervisor` for the settings files of one directory.

    Args:
        settings: That directory; "" is the system's.
        proc: Where the kernel shows processes.
        machines: Where machinectl has its containers.
    """

    def __init__(self, settings: str = "", proc: str = "/proc", machines: str = MACHINES) -> None:
        self._settings = os.path.abspath(settings or SETTINGS)
        self._proc = proc
        self._machines = machines

    def plan(self, guest: Guest) -> Plan:
        """See `Hypervisor`."""
        piece = Piece("nspawn settings", self._path(guest), _block(guest).text())
        options = _OPTIONS.format(socket_directory(guest), INSIDE)
        notes = (SHARED, DIRECT, _DIRECTORY, _AGAIN, options, _PRIVATE)
        return Plan(guest.name, GuestKind.NSPAWN, guest.via, (piece,), notes)

    def require(self, guest: Guest) -> None:
        """See `Hypervisor`: it runs, has settings, or is machinectl's."""
        name = container_name(guest)
        names = self._leaders().keys() | _listed(self._settings, ".nspawn") | _listed(self._machines, ".raw")
        if name not in names:
            raise unknown(f"no container {name} runs or lies in {self._machines}", name, names, NEW)

    def owner(self, guest: Guest) -> tuple[int | None, int | None]:
        """Return who is root in the container, by its process or its files."""
        leader = self._leaders().get(container_name(guest))
        uid = self._root_of(leader) if leader else _owner_of(f"{self._machines}/{container_name(guest)}")
        return (uid, uid) if uid and uid >= _SHIFTED else (None, None)

    def apply(self, guest: Guest) -> list[Change]:
        """See `Hypervisor`: a file that is not there is made."""
        path, there = self._path(guest), os.path.exists(self._path(guest))
        old = files.read(path) if there else ""
        new = with_block(old, _block(guest))
        if there:
            return files.edit(path, old, new)
        return files.whole(path, new)

    def remove(self, guest: Guest) -> list[Change]:
        """See `Hypervisor`: a file that has nothing but our block is deleted."""
        path = self._path(guest)
        if not os.path.exists(path):
            return []
        old = files.read(path)
        new = without_block(old, container_name(guest))
        return files.restore(path, old, new) if new else files.delete(path)

    def inside(self, guest: Guest) -> Inside | None:
        """See `Hypervisor`: by nsenter, which needs no machined."""
        name = container_name(guest)
        if not (leader := self._leaders().get(name)):
            raise GuestUnavailable(
                f"container {name} does not run", hint=f"Start it: machinectl start {name}."
            )
        return _Entered(leader)

    def audit(self) -> list[GuestFacts]:
        """See `Hypervisor`: those that run, and those that have settings."""
        running, names = self._leaders(), _listed(self._settings, ".nspawn")
        return [self._facts(name, running=name in running) for name in sorted(names | running.keys())]

    def _facts(self, name: str, *, running: bool) -> GuestFacts:
        path = os.path.join(self._settings, f"{name}.nspawn")
        ours = os.path.exists(path) and has_block(files.read(path), name)
        return container_facts(GuestKind.NSPAWN, name, running=running, ours=ours)

    def _path(self, guest: Guest) -> str:
        return os.path.join(self._settings, f"{container_name(guest)}.nspawn")

    def _leaders(self) -> dict[str, int]:
        """Process 1 of each container that runs, by the container's name."""
        found = {}
        for entry in filter(str.isdecimal, os.listdir(self._proc)):
            arguments = self._read(entry, "cmdline").split("\0")
            if os.path.basename(arguments[0]) == _PROGRAM and (name := _machine(arguments)):
                for child in self._read(entry, f"task/{entry}/children").split()[:1]:
                    found[name] = int(child)
        return found

    def _root_of(self, leader: int) -> int | None:
        first = self._read(str(leader), "uid_map").split()
        return int(first[1]) if len(first) >= 2 and first[0] == "0" else None

    def _read(self, pid: str, name: str) -> str:
        try:
            with open(os.path.join(self._proc, pid, name), encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            return ""


def _block(guest: Guest) -> Block:
    keys = ("[Files]", f"BindReadOnly={socket_directory(guest)}:{INSIDE}")
    return Block(GuestKind.NSPAWN, container_name(guest), keys)


def _machine(arguments: list[str]) -> str:
    """Read the container's name from a command line of nspawn."""
    directory = ""
    for number, each in enumerate(arguments):
        option, equals, value = each.partition("=")
        value = value if equals else "".join(arguments[number + 1 : number + 2])
        if option in {"-M", "--machine"}:
            return value
        if option in {"-D", "--directory"}:
            directory = os.path.basename(value.rstrip("/"))
    return directory


def _listed(folder: str, suffix: str) -> set[str]:
    try:
        return {each.removesuffix(suffix) for each in os.listdir(folder)}
    except OSError:
        return set()


def _owner_of(path: str) -> int | None:
    try:
        return os.stat(path).st_uid
    except OSError:
        return None


@dataclass(frozen=True, slots=True)
class _Entered:
    leader: int

    def run(self, argv: list[str], *, stdin: bytes = b"", timeout_s: float = 30.0) -> GuestCommandResult:
        """See `Inside`."""
        entered = ["nsenter", f"--target={self.leader}", "--all", "--root", "--wdns=/", "--"]
        arguments = [*entered, "env", "-i", _PATH, *argv]
        return program.run(arguments, stdin=stdin, timeout_s=timeout_s)


def hypervisor(where: str = "") -> Hypervisor:
    """Return nspawn's containers; `where` is their settings' directory."""
    return Nspawn(where)
