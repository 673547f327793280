"""The host's programs for small guests, with their libraries."""

import re
import shutil
from pathlib import Path

from lab.cache import NoLab, program


def host_programs(*names: str) -> dict[str, Path]:
    """Return programs as `files` for lab.initramfs.tiny, with their paths.

    Raises:
        NoLab: one of them is not installed.
    """
    files: dict[str, Path] = {}
    for name in names:
        found = shutil.which(name)
        if not found:
            raise NoLab(f"{name} is not installed")
        files |= {found: Path(found).resolve(), **libraries_of(Path(found))}
    return files


def libraries_of(binary: Path) -> dict[str, Path]:
    """Return a program's libraries and loader, by their paths."""
    found = re.findall(r"(/\S+) \(0x", program("ldd", binary))
    return {path: Path(path).resolve() for path in found}
