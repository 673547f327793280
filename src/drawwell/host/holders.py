"""Find processes that have a device node open, using only /proc."""

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
    """A process that has a device node open."""

    pid: int
    name: str


def holders(node: str, proc: str = "/proc") -> tuple[Holder, ...]:
    """Return other processes that have `node` open.

    Processes in containers are included if they are visible here.
    """
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


def describe_holders(found: Iterable[Holder]) -> str:
    """Name the holders, for instance ``qemu-system-x86 (process 4711)``."""
    return ", ".join(f"{each.name} (process {each.pid})" for each in found) or "another process"


def is_ours(holder: Holder, proc: str = "/proc") -> bool:
    """Return whether the holder is drawwell, judging by its command line."""
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
    """Return whether the device is the same; each container has a /dev/pts/0."""
    if os.path.samestat(one, other):
        return True
    terminal = os.major(one.st_rdev) in _PTS_MAJORS
    return stat.S_ISCHR(one.st_mode) and one.st_rdev == other.st_rdev and not terminal


def _name(path: Path) -> str:
    """Return the process's own name, sanitised for a terminal."""
    try:
        name = path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
    return "".join(each if each.isprintable() else "?" for each in name)
