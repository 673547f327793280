"""Debian's kernels, unpacked but not installed."""

import functools
import lzma
import os
import re
import shutil
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lab.cache import NoLab, digest_of, kept, program

FLAVOURS: Final = {"cloud": "linux-image-cloud-amd64", "full": "linux-image-amd64"}
"""``cloud`` boots in half the time, and has neither USB nor a VM generation id (6.1)."""
_SECTORS_AT: Final = 0x1F1
_PAYLOAD_AT: Final = 0x248
"""In a bzImage: the 512-byte sectors before its code, less one, and the packed kernel's place
in the code and its length (https://docs.kernel.org/arch/x86/boot.html)."""
_AS_ROOT: Final = ("-o", "APT::Sandbox::User=root")


@dataclass(frozen=True)
class Kernel:
    """A kernel, its modules, and the version of its package."""

    folder: Path
    version: str

    @property
    def image(self) -> Path:
        """The kernel's file."""
        return next(self.folder.glob("boot/vmlinuz-*"))

    @property
    def release(self) -> str:
        """The kernel's release, as `uname -r` shows it in the guest."""
        return self.image.name.removeprefix("vmlinuz-")

    @property
    def modules(self) -> Path:
        """The directory of its modules, with modules.dep."""
        return self.folder / "lib/modules" / self.release

    def unpacked(self) -> "Kernel":
        """Return this kernel as ELF, which under TCG starts 10 s of CPU earlier.

        QEMU enters it by PVH, and so gives it no seed.

        Raises:
            NoLab: it is packed in another way than Debian 12's.
        """
        recipe = {"image": digest_of(self.image)}
        return Kernel(kept("unpacked", recipe, lambda work: _unpack(self, work)), self.version)

    def files_of(self, names: Iterable[str]) -> list[Path]:
        """Return the files of modules and their dependencies, in loading order.

        Raises:
            NoLab: there is no such module.
        """
        files: dict[Path, None] = {}
        for name in names:
            shown = program("modprobe", "-d", self.folder, "-S", self.release, "--show-depends", name)
            found = [line.split()[1] for line in shown.splitlines() if line.startswith("insmod ")]
            files.update({Path(file): None for file in found})
        return list(files)


@functools.cache
def kernel(flavour: str) -> Kernel:
    """Return the current kernel of the host's suite: ``cloud`` or ``full``.

    Raises:
        NoLab: it cannot be fetched.
    """
    if os.uname().machine != "x86_64":
        raise NoLab("the guests are amd64 only")
    package, version = _newest(FLAVOURS[flavour])
    folder = kept("kernel", {"package": package, "version": version}, lambda work: _fetch(package, work))
    return Kernel(folder, version)


def _unpack(packed: Kernel, work: Path) -> None:
    image = packed.image.read_bytes()
    offset, length = struct.unpack_from("<II", image, _PAYLOAD_AT)
    start = (image[_SECTORS_AT] + 1) * 512 + offset
    try:  # the unpacked length follows the data
        content = lzma.LZMADecompressor().decompress(image[start : start + length])
    except lzma.LZMAError:
        raise NoLab("this kernel is not packed with xz") from None
    (work / "boot").mkdir()
    (work / "boot" / packed.image.name).write_bytes(content)
    (work / "lib").symlink_to(packed.folder / "lib")


def _newest(meta: str) -> tuple[str, str]:
    """Find the package behind `meta`; update apt's lists if needed."""
    for last in (False, True):
        with_name = re.search(r"Depends: (linux-image-\S+)", program("apt-cache", "depends", meta))
        if with_name and (found := re.search(r"^Version: (\S+)", _shown(with_name[1]), re.MULTILINE)):
            return with_name[1], found[1]
        if not last:
            program("apt-get", "-qq", "update")
    raise NoLab(f"apt has no package {meta}")


def _shown(package: str) -> str:
    return program("apt-cache", "show", "--no-all-versions", package)


def _fetch(package: str, work: Path) -> None:
    download = ("apt-get", "-qq", *_AS_ROOT, "download", package)
    try:
        program(*download, cwd=work)
    except NoLab:  # the mirror has a newer version than apt's lists
        program("apt-get", "-qq", "update")
        program(*download, cwd=work)
    archive = next(work.glob("*.deb"))
    program("dpkg-deb", "-x", archive, work)
    archive.unlink()
    if not (work / "lib").exists():  # Debian 13 has them in /usr/lib
        (work / "lib").symlink_to("usr/lib")
    shutil.rmtree(work / "usr/share", ignore_errors=True)
    program("depmod", "-b", work, next(work.glob("lib/modules/*")).name)
