"""Finds other programs that read noise devices or feed the kernel.

This module only reports the programs and never changes them.
"""

import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from drawwell.config.devices import DEVICES, programs
from drawwell.reports import Report

if TYPE_CHECKING:
    from drawwell.config.model import Config

PACKAGES: Final[Mapping[str, str]] = {
    "onerng": "onerng.sh", "rng-tools": "rngd", "rng-tools5": "rngd", "rng-tools-debian": "rngd",
    "ekeyd": "ekeyd", "infnoise": "infnoise", "haveged": "haveged", "jitterentropy-rngd": "jitterentropy-r",
}  # fmt: skip
"""Debian packages and their programs; the kernel truncates names to 15 characters."""
IMPORTED: Final = {"onerng.sh", "rngd"}
"""The programs whose settings ``drawwell migrate`` reads."""
KEEP: Final = (
    "stop it from feeding the kernel (disable its service, or change its settings), but keep the program, because "
    "drawwell reads the device through it"
)
_NODES: Final = re.compile(r"/dev/(ttyACM\d+|ttyUSB\d+|hwrng|chaoskey\d+)")
_KERNEL: Final = ("/dev/random", "/dev/urandom")
_STATUS: Final = "var/lib/dpkg/status"


@dataclass(frozen=True, slots=True)
class Rival(Report):
    """Another program; `package` and `version` are "" if it has no package."""

    program: str
    package: str
    version: str
    pids: tuple[int, ...]
    holds: tuple[str, ...]
    feeds: bool

    @property
    def text(self) -> str:
        """A description for users."""
        what = (
            f"package {self.package} {self.version} is installed"
            if self.package
            else f"{self.program} is not from a package"
        )
        if not self.pids:
            return f"{what} but not running"
        does = [f"is running (process {', '.join(map(str, self.pids))})"]
        does += [f"has {' and '.join(self.holds)} open"] if self.holds else []
        does += ["feeds the kernel"] if self.feeds else []
        return f"{what}, {', '.join(does)}"


def rivals(root: str = "/") -> tuple[Rival, ...]:
    """Find the programs; `root` contains ``var`` and ``proc``."""
    running = dict(_running(root))
    found = []
    for package, version in _installed(root):
        found.append(_rival(PACKAGES[package], package, version, running))
    seen = {each.program for each in found}
    found += [_rival(program, "", "", running) for program in dict.fromkeys(PACKAGES.values())
              if program not in seen and any(name == program for name, _ in running.values())]  # fmt: skip
    return tuple(found)


def readers(config: "Config | None") -> frozenset[str]:
    """Return the programs that sources can use to read their devices."""
    sources = config.sources if config else ()
    configured = {word for each in sources for word in programs(each.command)}
    known = {kind.reader for kind in DEVICES.values() if kind.reader}
    return frozenset(word[:15] for word in configured | known)


def in_the_way(found: Collection[Rival], needed: Collection[str]) -> tuple[Rival, ...]:
    """Leave out needed programs, unless they feed the kernel themselves."""
    return tuple(each for each in found if each.feeds or each.program not in needed)


def _rival(
    program: str, package: str, version: str, running: Mapping[int, tuple[str, frozenset[str]]]
) -> Rival:
    mine = {pid: files for pid, (name, files) in running.items() if name == program}
    opened = frozenset().union(*mine.values()) if mine else frozenset()
    holds = tuple(sorted(path for path in opened if _NODES.fullmatch(path)))
    return Rival(
        program, package, version, tuple(sorted(mine)), holds, feeds=any(path in opened for path in _KERNEL)
    )


def _installed(root: str) -> Iterator[tuple[str, str]]:
    """Yield the installed packages from `PACKAGES` with their versions."""
    try:
        text = Path(root, _STATUS).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    for stanza in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line and line[:1] != " ")
        if fields.get("Package") in PACKAGES and fields.get("Status", "").endswith(" installed"):
            yield fields["Package"], fields.get("Version", "")


def _running(root: str) -> Iterator[tuple[int, tuple[str, frozenset[str]]]]:
    for entry in sorted(Path(root, "proc").glob("[0-9]*")):
        try:
            name = (entry / "comm").read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            continue
        if name in PACKAGES.values() and not _in_a_container(entry):
            yield int(entry.name), (name, frozenset(_open_files(entry)))


def _in_a_container(process: Path) -> bool:
    """Return whether a process is in a different PID namespace."""
    try:
        return os.readlink(process / "ns/pid") != os.readlink(process.parent / "self/ns/pid")
    except OSError:
        return False


def _open_files(process: Path) -> Iterator[str]:
    """Yield open files, also those of children: the vendor's script runs dd."""
    try:
        for link in (process / "fd").iterdir():
            yield os.readlink(link)
        children = (process / "task" / process.name / "children").read_text().split()
    except OSError:
        return
    for child in children:
        yield from _open_files(process.parent / child)
