"""Debian roots without a kernel: to chroot into, or for systemd-nspawn.

Each is an overlay over a cached root, so a test may change it freely.
"""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from drawwell.testing.waiting import DEADLINE_S
from lab.cache import NoLab, kept, program
from lab.debian import _APT as APT
from lab.debian import _archive as archive
from lab.debian import debian

MINBASE: Final = ("python3-cryptography", "python3-h11")
"""The package's dependencies, without systemd."""
COMMAND_S: Final = DEADLINE_S
"""The time limit of one command in a root."""
ENVIRONMENT: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}  # fmt: skip


class Root:
    """A root directory that runs commands.

    Args:
        path: Its path on the host.
        enter: The arguments before each command, such as ``("chroot", path)``.
        leader: The first process of a container.
    """

    def __init__(self, path: Path, enter: Sequence[str], leader: int = 0) -> None:
        self.path = path
        self._enter = tuple(enter)
        self._leader = leader

    def wire(self, other: "Root", name: str, here: str, there: str) -> None:
        """Connect two containers by a link `name`, with an address at each end."""
        ends = (self, here), (other, there)
        command = ["ip", "link", "add", name, "netns", str(self._leader), "type", "veth"]
        program(*command, "peer", "name", name, "netns", str(other._leader))
        for root, address in ends:
            root.run("ip", "address", "add", address, "dev", name)
            root.run("ip", "link", "set", name, "up")

    def run(self, *arguments: str, check: bool = True, data: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command in the root as root; return stdout and stderr together.

        Raises:
            AssertionError: it failed, unless `check` is false.
        """
        done = subprocess.run(
            [*self._enter, *arguments], input=data, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=COMMAND_S, check=False, env=ENVIRONMENT,
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"{' '.join(arguments)} exits with {done.returncode}: {done.stdout}")
        return done

    def output(self, *arguments: str) -> str:
        """Return a command's output, whatever its exit code."""
        return self.run(*arguments, check=False).stdout.strip()

    def files(self) -> dict[str, tuple[int, int, int, int]]:
        """Return mode, owner, group and size of every path outside kernel mounts."""
        found = {}
        for folder, names, files in os.walk(self.path):
            here = os.path.relpath(folder, self.path)
            if here == ".":
                names[:] = [name for name in names if name not in {"proc", "sys", "dev", "run", "tmp"}]
            for name in (*names, *files):
                status = os.lstat(os.path.join(folder, name))
                size = status.st_size if name in files else 0
                found[os.path.join(here, name)] = (status.st_mode, status.st_uid, status.st_gid, size)
        return found


@contextlib.contextmanager
def chroot(suite: str = "bookworm", packages: Sequence[str] = MINBASE) -> Iterator[Root]:
    """Create a root without systemd, like a container image, for chroot.

    Raises:
        NoLab: not root, or it cannot be built.
    """
    with _overlay(minbase(suite, packages)) as root, _mounts(root):
        yield Root(root, ("chroot", str(root)))


@contextlib.contextmanager
def container(
    suite: str = "bookworm", *options: str, packages: Sequence[str] = (), hook: str = ""
) -> Iterator[Root]:
    """Boot a Debian with systemd in a container without a network.

    Args:
        suite: ``bookworm`` or ``trixie``.
        options: More options of systemd-nspawn, such as ``--bind=…``.
        packages: More packages.
        hook: A piece of sh to run in its new root.

    Raises:
        NoLab: not root, or it cannot be built or booted.
    """
    disk = debian(suite, packages=packages, hook=hook).disk
    assert disk, "the lab's Debian has one"
    with tempfile.TemporaryDirectory(prefix="drawwell-root-") as folder, contextlib.ExitStack() as undo:
        lower = Path(folder)
        program("mount", "-o", "ro,loop", disk, lower)
        undo.callback(program, "umount", lower)
        root = undo.enter_context(_overlay(lower))
        _allow_restarts(root)
        leader = undo.enter_context(_booted(root, options))
        yield Root(root, ("nsenter", f"--target={leader}", "--all", "--root", "--wdns=/"), leader)


def _allow_restarts(root: Path) -> None:
    """Let tests restart drawwell's units more often than their limit allows."""
    folder = root / "etc/systemd/system/drawwell-.service.d"
    folder.mkdir(parents=True)
    (folder / "restarts.conf").write_text("[Unit]\nStartLimitBurst=1000\n")


def minbase(suite: str = "bookworm", packages: Sequence[str] = MINBASE) -> Path:
    """Return a small cached Debian without systemd; do not change it.

    Raises:
        NoLab: not root, or it cannot be built.
    """
    recipe = {"suite": suite, "packages": sorted(packages), "apt": APT}

    def build(work: Path) -> None:
        _need_root()
        include = f"--include={','.join(sorted(packages))}"
        program("mmdebstrap", "--variant=minbase", include, *APT, suite, work / "root", archive())

    return kept("minbase", recipe, build) / "root"


def _need_root() -> None:
    if os.geteuid() != 0:
        raise NoLab("a Debian root file system needs root")


@contextlib.contextmanager
def _overlay(lower: Path) -> Iterator[Path]:
    _need_root()
    with tempfile.TemporaryDirectory(prefix="drawwell-root-") as folder:
        upper, work, root = (Path(folder) / name for name in ("upper", "work", "root"))
        for each in (upper, work, root):
            each.mkdir()
        program(
            "mount",
            "-t",
            "overlay",
            "overlay",
            "-o",
            f"lowerdir={lower},upperdir={upper},workdir={work}",
            root,
        )
        try:
            yield root
        finally:
            program("umount", root)


@contextlib.contextmanager
def _mounts(root: Path) -> Iterator[None]:
    with contextlib.ExitStack() as undo:
        for kind, place in (("proc", "proc"), ("tmpfs", "run"), ("devpts", "dev/pts"), ("tmpfs", "dev/shm")):
            at = root / place
            at.mkdir(exist_ok=True)
            program("mount", "-t", kind, kind, at)
            undo.callback(program, "umount", at)
        yield


@contextlib.contextmanager
def _booted(root: Path, options: Sequence[str]) -> Iterator[int]:
    command = [
        "systemd-nspawn",
        "--quiet",
        f"--directory={root}",
        "--register=no",
        "--keep-unit",
        "--private-network",
    ]
    console = root / "console.log"
    with console.open("wb") as log:
        booting = subprocess.Popen(
            [*command, "--console=pipe", *options, "--boot"], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        yield _leader(booting, console)
    finally:
        booting.terminate()
        booting.wait(COMMAND_S)


def _leader(booting: "subprocess.Popen[bytes]", console: Path) -> int:
    """Wait until systemd is up; return its process ID."""
    from drawwell.testing.waiting import wait_until

    children = Path(f"/proc/{booting.pid}/task/{booting.pid}/children")

    def up() -> bool:
        if booting.poll() is not None:
            raise NoLab(f"no container: {console.read_text(errors='replace')[-500:]}")
        return bool(leader := children.read_text().split()) and _is_up(leader[0])

    wait_until(up, "the container's systemd is up")
    return int(children.read_text().split()[0])


def _is_up(leader: str) -> bool:
    asked = subprocess.run(
        ["nsenter", f"--target={leader}", "--all", "--root", "--wdns=/", "systemctl", "is-system-running"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return asked.stdout.strip() in {"running", "degraded"}
