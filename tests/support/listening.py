"""Whether a program listens on a Unix socket."""

from pathlib import Path

ACCEPTS = 0x10000
"""The flag __SO_ACCEPTCON (linux/net.h)."""


def listens(path: Path | str) -> bool:
    """Return whether a program accepts at `path`, which bind() makes earlier."""
    rows = (line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:])
    return any(row[7:] == [str(path)] and int(row[3], 16) & ACCEPTS for row in rows)
