"""Containers of systemd-nspawn and machinectl, with settings files.

systemd-nspawn(5): NAME.nspawn in /etc/systemd/nspawn is read when the container starts.
"""

import os
from dataclasses import dataclass
from typing import Final

from drawwell.errors import GuestUnavailable
from drawwell.guests import program
from drawwell.guests.container_facts import container_facts
from drawwell.guests.edit import files
from drawwell.guests.edit.block import Block, has_block, without_block
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
"""A fixed path, because the host's own may name directories that the container lacks."""
_PROGRAM: Final = "systemd-nspawn"
_SHIFTED: Final = 65_536
"""The user IDs of nspawn's private users start at multiples of this number."""
_DIRECTORY: Final = (
    "The directory is mounted, not the socket, so the container also sees the new socket of a restarted broker. If "
    "the directory is missing, the container does not start."
)
_AGAIN: Final = "To apply this to a running container, restart it: machinectl reboot NAME."
_OPTIONS: Final = (
    "systemd-nspawn ignores the mounts in its settings if its command line has --bind or "
    "--bind-ro. In this case, add --bind-ro={}:{} to the command line."
)
_PRIVATE: Final = (
    "With private users (machinectl start), the container's root is another user on the host. drawwell finds this "
    "user from the running container or from the owner of its files: apply again after the first start, or add "
    "--user."
)


class Nspawn:
    """A `Hypervisor` for the settings files in one directory.

    Args:
        settings: The directory; "" for the system's default.
        proc: The mount point of procfs.
        machines: The directory of machinectl's containers.
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
        """See `Hypervisor`: a running container, settings or an image suffice."""
        name = container_name(guest)
        names = self._leaders().keys() | _listed(self._settings, ".nspawn") | _listed(self._machines, ".raw")
        if name not in names:
            raise unknown(f"no container {name} is running or in {self._machines}", name, names, NEW)

    def owner(self, guest: Guest) -> tuple[int | None, int | None]:
        """Return the container's root user, found from its process or files."""
        leader = self._leaders().get(container_name(guest))
        uid = self._root_of(leader) if leader else _owner_of(f"{self._machines}/{container_name(guest)}")
        return (uid, uid) if uid and uid >= _SHIFTED else (None, None)

    def apply(self, guest: Guest) -> list[Change]:
        """See `Hypervisor`: create a missing file."""
        path = self._path(guest)
        if os.path.exists(path):
            return files.put_block(path, files.read(path), _block(guest))
        return files.whole(path, _block(guest).text())

    def remove(self, guest: Guest) -> list[Change]:
        """See `Hypervisor`: delete a file that contains only our block."""
        path = self._path(guest)
        if not os.path.exists(path):
            return []
        old, name = files.read(path), container_name(guest)
        made_here = not without_block(old, name) and not os.path.exists(path + files.BACKUP)
        return files.delete(path) if made_here else files.take_block(path, old, name)

    def inside(self, guest: Guest) -> Inside | None:
        """See `Hypervisor`: return a way in through nsenter, without machined."""
        name = container_name(guest)
        if not (leader := self._leaders().get(name)):
            raise GuestUnavailable(
                f"container {name} is not running", hint=f"Start it with 'machinectl start {name}'."
            )
        return _Entered(leader)

    def audit(self) -> list[GuestFacts]:
        """See `Hypervisor`: return running containers and those with settings."""
        running, names = self._leaders(), _listed(self._settings, ".nspawn")
        return [self._facts(name, running=name in running) for name in sorted(names | running.keys())]

    def _facts(self, name: str, *, running: bool) -> GuestFacts:
        path = os.path.join(self._settings, f"{name}.nspawn")
        ours = os.path.exists(path) and has_block(files.read(path), name)
        return container_facts(GuestKind.NSPAWN, name, running=running, ours=ours)

    def _path(self, guest: Guest) -> str:
        return os.path.join(self._settings, f"{container_name(guest)}.nspawn")

    def _leaders(self) -> dict[str, int]:
        """Return the PID of each running container's init process, by name."""
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
    """Parse the container's name from nspawn's command line."""
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
    """Return nspawn's containers; `where` is the directory of their settings."""
    return Nspawn(where)
