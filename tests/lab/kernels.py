"""Debian's kernels, unpacked and not installed."""

import functools
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lab.cache import NoLab, kept, program

FLAVOURS: Final = {"cloud": "linux-image-cloud-amd64", "full": "linux-image-amd64"}
"""``cloud`` boots in half the time, and has neither USB nor a VM generation id (6.1)."""
_AS_ROOT: Final = ("-o", "APT::Sandbox::User=root")


@dataclass(frozen=True)
class Kernel:
    """A kernel, its modules, and the version of its package."""

    folder: Path
    version: str

    @property
    def image(self) -> Path:
        """The file that is booted."""
        return next(self.folder.glob("boot/vmlinuz-*"))

    @property
    def release(self) -> str:
        """What uname -r says in the guest."""
        return self.image.name.removeprefix("vmlinuz-")

    @property
    def modules(self) -> Path:
        """The directory of its modules, with modules.dep."""
        return self.folder / "lib/modules" / self.release

    def files_of(self, names: Iterable[str]) -> list[Path]:
        """Return the files of modules and of what they need, in the order in which they are loaded.

        Raises:
            NoLab: no such module.
        """
        files: dict[Path, None] = {}
        for name in names:
            shown = program("modprobe", "-d", self.folder, "-S", self.release, "--show-depends", name)
            found = [line.split()[1] for line in shown.splitlines() if line.startswith("insmod ")]
            files.update({Path(file): None for file in found})
        return list(files)


@functools.cache
def kernel(flavour: str) -> Kernel:
    """Return the current kernel of this machine's own suite: ``cloud`` or ``full``.

    Raises:
        NoLab: it cannot be fetched.
    """
    if os.uname().machine != "x86_64":
        raise NoLab("the guests are amd64 only")
    package, version = _newest(FLAVOURS[flavour])
    folder = kept("kernel", {"package": package, "version": version}, lambda work: _fetch(package, work))
    return Kernel(folder, version)


def _newest(meta: str) -> tuple[str, str]:
    """Look up the package that `meta` stands for; what apt knows is refreshed when it knows nothing."""
    for last in (False, True):
        with_name = re.search(r"Depends: (linux-image-\S+)", program("apt-cache", "depends", meta))
        if with_name and (found := re.search(r"^Version: (\S+)", _shown(with_name[1]), re.MULTILINE)):
            return with_name[1], found[1]
        if not last:
            program("apt-get", "-qq", "update")
    raise NoLab(f"apt knows no package {meta}")


def _shown(package: str) -> str:
    return program("apt-cache", "show", "--no-all-versions", package)


def _fetch(package: str, work: Path) -> None:
    download = ("apt-get", "-qq", *_AS_ROOT, "download", package)
    try:
        program(*download, cwd=work)
    except NoLab:  # the mirror has a newer one than apt knows of
        program("apt-get", "-qq", "update")
        program(*download, cwd=work)
    archive = next(work.glob("*.deb"))
    program("dpkg-deb", "-x", archive, work)
    archive.unlink()
    if not (work / "lib").exists():  # Debian 13 has them in /usr/lib
        (work / "lib").symlink_to("usr/lib")
    shutil.rmtree(work / "usr/share", ignore_errors=True)
    program("depmod", "-b", work, next(work.glob("lib/modules/*")).name)
