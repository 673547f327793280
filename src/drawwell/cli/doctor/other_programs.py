"""Other programs that read noise devices or feed the kernel: installed, running, holding what, feeding or not.

They are looked at and named; nothing of theirs is touched.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from drawwell.reports import Report

PACKAGES: Final[Mapping[str, str]] = {
    "onerng": "onerng.sh", "rng-tools": "rngd", "rng-tools5": "rngd", "rng-tools-debian": "rngd",
    "ekeyd": "ekeyd", "infnoise": "infnoise", "haveged": "haveged", "jitterentropy-rngd": "jitterentropy-r",
}  # fmt: skip
"""Debian packages and the programs that they run, by the first 15 letters that the kernel keeps of a name."""
_NODES: Final = re.compile(r"/dev/(ttyACM\d+|ttyUSB\d+|hwrng|chaoskey\d+)")
_KERNEL: Final = ("/dev/random", "/dev/urandom")
_STATUS: Final = "var/lib/dpkg/status"


@dataclass(frozen=True, slots=True)
class Rival(Report):
    """A program that does what drawwell does; `package` and `version` are "" when no package of it is installed."""

    program: str
    package: str
    version: str
    pids: tuple[int, ...]
    holds: tuple[str, ...]
    feeds: bool

    @property
    def words(self) -> str:
        """What it is and does, for people."""
        what = (
            f"package {self.package} {self.version} is installed"
            if self.package
            else f"{self.program} is here"
        )
        if not self.pids:
            return f"{what}; it does not run"
        does = [f"runs (process {', '.join(map(str, self.pids))})"]
        does += [f"holds {' and '.join(self.holds)}"] if self.holds else []
        does += ["feeds the kernel"] if self.feeds else []
        return f"{what}, {', '.join(does)}"


def rivals(root: str = "/") -> tuple[Rival, ...]:
    """Look for all of them; `root` is the directory that holds ``var`` and ``proc``."""
    running = dict(_running(root))
    found = []
    for package, version in _installed(root):
        found.append(_rival(PACKAGES[package], package, version, running))
    seen = {each.program for each in found}
    found += [_rival(program, "", "", running) for program in dict.fromkeys(PACKAGES.values())
              if program not in seen and any(name == program for name, _ in running.values())]  # fmt: skip
    return tuple(found)


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
    """The packages of ours that dpkg says are installed, with their versions."""
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
    """Return whether a process is in another PID namespace than this one."""
    try:
        return os.readlink(process / "ns/pid") != os.readlink(process.parent / "self/ns/pid")
    except OSError:
        return False


def _open_files(process: Path) -> Iterator[str]:
    """What it has open, with what its children have: the vendor's script feeds by dd."""
    try:
        for link in (process / "fd").iterdir():
            yield os.readlink(link)
        children = (process / "task" / process.name / "children").read_text().split()
    except OSError:
        return
    for child in children:
        yield from _open_files(process.parent / child)
