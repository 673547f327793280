"""Who has a device's node open. Reads /proc only."""

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from drawwell.reports import Report

_PTS_MAJORS: Final = range(136, 144)
"""Pseudo-terminals (Documentation/admin-guide/devices.txt)."""


@dataclass(frozen=True, slots=True)
class Holder(Report):
    """A process that has a node open."""

    pid: int
    name: str


def holders(node: str, proc: str = "/proc") -> tuple[Holder, ...]:
    """Return the other processes that have `node` open, as far as we may look into them, in containers too."""
    real = os.path.realpath(node)
    try:
        wanted = os.stat(real)
    except OSError:
        return ()
    return tuple(
        Holder(int(entry.name), _name(entry / "comm"))
        for entry in sorted(Path(proc).iterdir())
        if entry.name.isdigit() and int(entry.name) != os.getpid() and _has_open(entry, real, wanted)
    )


def holders_words(found: Iterable[Holder]) -> str:
    """Name them, for instance ``qemu-system-x86 (process 4711)``."""
    return ", ".join(f"{each.name} (process {each.pid})" for each in found) or "another process"


def is_ours(holder: Holder, proc: str = "/proc") -> bool:
    """Is it a drawwell, by its own command line?"""
    try:
        return b"drawwell" in (Path(proc) / str(holder.pid) / "cmdline").read_bytes()
    except OSError:
        return False


def _has_open(process: Path, real: str, wanted: os.stat_result) -> bool:
    with suppress(OSError):
        for entry in (process / "fd").iterdir():
            with suppress(OSError):
                if os.readlink(entry).startswith(("/dev/", real)) and _is_same(os.stat(entry), wanted):
                    return True
    return False


def _is_same(one: os.stat_result, other: os.stat_result) -> bool:
    """Are they one device? A container's /dev/pts/0 is another terminal than the host's, under the same number."""
    if os.path.samestat(one, other):
        return True
    terminal = os.major(one.st_rdev) in _PTS_MAJORS
    return stat.S_ISCHR(one.st_mode) and one.st_rdev == other.st_rdev and not terminal


def _name(path: Path) -> str:
    """What the process calls itself, and what it calls itself must not move a terminal."""
    try:
        name = path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
    return "".join(each if each.isprintable() else "?" for each in name)
