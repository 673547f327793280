"""A container root with the host's programs, mounted read-only."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_EMPTY = ("dev", "etc", "proc", "run", "sys", "tmp", "var")


def make_root(path: Path, uid: int = 0) -> Path:
    """Create the skeleton, owned by `uid`, such as an unprivileged root."""
    for name in _EMPTY:
        (path / name).mkdir(parents=True)
    for name in _SYSTEM[1:]:
        if os.path.islink(name):
            (path / name[1:]).symlink_to(os.readlink(name))
    (path / "etc" / "passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
    (path / "etc" / "group").write_text("root:x:0:\ndialout:x:20:\n")
    (path / "etc" / "ld.so.cache").write_bytes(Path("/etc/ld.so.cache").read_bytes())
    for each in (path, *path.rglob("*")):
        os.chown(each, uid, uid, follow_symlinks=False)
    return path


def system_folders() -> list[str]:
    """Return mounts for the host's programs: /usr and unmerged folders."""
    return [name for name in _SYSTEM if os.path.isdir(name) and not os.path.islink(name)]


def our_folders() -> list[str]:
    """Return mounts for drawwell and its Python."""
    wanted = sorted({str(ROOT), sys.prefix, sys.base_prefix})
    return [each for each in wanted if not any(each.startswith(f"{other}/") for other in (*wanted, "/usr"))]


def drawwell(*arguments: str) -> list[str]:
    """Return a drawwell command for a container with both mounts."""
    return [sys.executable, "-m", "drawwell", *arguments]


@contextmanager
def no_cgroup_left(*names: str) -> Iterator[None]:
    """Remove new, empty cgroups with these names (shell patterns)."""
    before = _cgroups(*names)
    yield
    for each in sorted(_cgroups(*names) - before, reverse=True):
        with suppress(OSError):
            each.rmdir()


def _cgroups(*names: str) -> set[Path]:
    root = Path("/sys/fs/cgroup")
    return {found for name in names for found in (*root.glob(name), *root.glob(f"*/{name}"))}
