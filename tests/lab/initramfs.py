"""Guests consisting of a kernel, busybox and a test's files."""

import gzip
import hashlib
import lzma
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lab.cache import digest_of, kept, program
from lab.kernels import Kernel, kernel

BUSYBOX: Final = "/bin/busybox"
AGENT: Final = Path(__file__).with_name("agent.sh")
ALWAYS: Final = ("virtio_pci", "virtio_rng")
_INIT: Final = """#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mkdir -p /dev/pts; mount -t devpts devpts /dev/pts
for m in $(cat /mods/order); do insmod "/mods/$m"; done
. /init.sh
poweroff -f
"""


@dataclass(frozen=True)
class Image:
    """A kernel with its initramfs, and an optional disk; `digest` covers all."""

    kernel: Kernel
    initrd: Path
    digest: str
    append: str = "quiet"
    disk: Path | None = None
    memory_mib: int = 192


def tiny(
    flavour: str = "cloud",
    *,
    modules: Sequence[str] = (),
    files: Mapping[str, bytes | Path] | None = None,
    init: str = ". /agent.sh\n",
) -> Image:
    """Return an image without a disk; it boots in 2 to 4 seconds.

    Args:
        flavour: ``cloud`` or ``full`` (USB, VM generation id).
        modules: Kernel modules to load first, with their dependencies.
        files: Host files or bytes by their path in the guest; all become executable.
        init: The sh script of process 1; the guest powers off at its end.

    Raises:
        NoLab: a part of it is not available.
    """
    used = kernel(flavour)
    content = _bytes_of(files or {})
    names = (*ALWAYS, *modules)
    recipe = {
        "kernel": [used.release, used.version],
        "modules": names,
        "files": {path: hashlib.sha256(data).hexdigest() for path, data in content.items()},
        "init": [_INIT, init, AGENT.read_text()],
        "busybox": digest_of(BUSYBOX) if os.path.exists(BUSYBOX) else "",
    }
    folder = kept("tiny", recipe, lambda work: _build(work, used, names, content, init))
    return Image(used, folder / "initrd", folder.name)


def _bytes_of(files: Mapping[str, bytes | Path]) -> dict[str, bytes]:
    return {path: data.read_bytes() if isinstance(data, Path) else data for path, data in files.items()}


def _build(work: Path, used: Kernel, modules: Sequence[str], files: Mapping[str, bytes], init: str) -> None:
    tree = work / "tree"
    for each in ("bin", "dev", "proc", "sys", "tmp", "mods", "etc"):
        (tree / each).mkdir(parents=True)
    program("cp", BUSYBOX, tree / "bin")
    order = [_put_module(file, tree / "mods") for file in used.files_of(modules)]
    own = {
        "mods/order": "\n".join(order).encode(),
        "init": _INIT.encode(),
        "init.sh": init.encode(),
        "agent.sh": AGENT.read_bytes(),
    }
    for path, data in {**own, **files}.items():
        target = tree / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        target.chmod(0o755)
    (work / "initrd").write_bytes(pack(tree))
    shutil.rmtree(tree)


def _put_module(file: Path, folder: Path) -> str:
    name = file.name.removesuffix(".xz")
    data = file.read_bytes()
    (folder / name).write_bytes(lzma.decompress(data) if file.suffix == ".xz" else data)
    return name


def pack(tree: Path) -> bytes:
    """Return the files of a directory as an initramfs."""
    names = "".join(f"{path.relative_to(tree)}\n" for path in sorted(tree.rglob("*")))
    program(
        "cpio", "-o", "-H", "newc", "--quiet", "--reproducible", "-O", tree.parent / "cpio",
        cwd=tree, data=names.encode(),
    )  # fmt: skip
    archive = tree.parent / "cpio"
    packed = gzip.compress(archive.read_bytes(), 1, mtime=0)
    archive.unlink()
    return packed


def static_program(source: str) -> Path:
    """Return a statically linked C program that runs in any guest.

    Raises:
        NoLab: there is no compiler, or it fails.
    """

    def build(work: Path) -> None:
        (work / "program.c").write_text(source)
        program("cc", "-O1", "-static", "-o", work / "program", work / "program.c")

    return kept("program", {"source": source}, build) / "program"
