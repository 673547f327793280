"""Programs of this machine for small guests, with the libraries that they need."""

import re
import shutil
from pathlib import Path

from lab.cache import NoLab, program


def host_programs(*names: str) -> dict[str, Path]:
    """Return what lab.initramfs.tiny takes as `files`: each program under its own path.

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
    """Return the libraries that a program is linked with, and its loader, by where it looks for them."""
    found = re.findall(r"(/\S+) \(0x", program("ldd", binary))
    return {path: Path(path).resolve() for path in found}
