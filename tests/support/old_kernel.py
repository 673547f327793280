"""A guest with the kernel of Debian 11, whose pool of 4,096 bits asks for bytes: what feeds kernels is seen on it.

It is User Mode Linux: a program like any other that needs no right and no virtual machine. Its root is this
machine's, read-only (hostfs), so what is installed here runs there. Debian signs it; apt checks that.
"""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from drawwell.testing.waiting import DEADLINE_S

SUITE: Final = "bullseye"
"""Debian 11. Its later 5.10 kernels have the new generator of 5.18 ported back; this one was built before."""
GUEST: Final = "user-mode-linux"
GUEST_SHA256: Final = "2cf4c2b2b36272b0b42c973d1239b4e73ad24c53d1a041a227f28bbee9b7082b"  # 5.10um3+b1, amd64
SEEN: Final = "SEEN "
"""What a program in the guest writes before each JSON document that it reports."""
_KEYS: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"
_BOOT_S: Final = DEADLINE_S
"""How long a guest may live; it takes some ten seconds."""


class NoGuest(Exception):
    """The guest, or a program for it, cannot be had here; the reason is its text."""


def guest_kernel() -> Path:
    """Return the guest: a program.

    Raises:
        NoGuest: it is not in the cache, and cannot be fetched.
    """
    if os.uname().machine != "x86_64":
        raise NoGuest("the guest runs on amd64 only")
    return _kept(GUEST, GUEST_SHA256, SUITE) / "usr/bin/linux.uml"


def unpacked(package: str) -> Path:
    """Return a directory with the files of a package of this machine's own suite, which is not installed by this.

    Raises:
        NoGuest: it is not in the cache, and cannot be fetched.
    """
    with tempfile.TemporaryDirectory() as empty:  # apt names no address for what it sees in the directory
        listed = _run("apt-get", "download", "--print-uris", package, cwd=empty).split()
    digests = [word.removeprefix("SHA256:") for word in listed if word.startswith("SHA256:")]
    if len(digests) != 1:
        raise NoGuest(f"apt knows no package {package}")
    return _kept(package, digests[0])


def boot(*words: str) -> list[dict[str, Any]]:
    """Run a Python script as the guest's first process until it switches the guest off; return what it reported.

    Args:
        words: The script and its arguments.

    Raises:
        NoGuest: the guest reported nothing.
    """
    with tempfile.TemporaryDirectory(prefix="dw-") as folder:
        console = _live([str(guest_kernel()), *_settings(folder), "--", *words])
    lines = [line.strip() for line in console.splitlines()]
    seen = [json.loads(line.removeprefix(SEEN)) for line in lines if line.startswith(SEEN)]
    if not seen:
        raise NoGuest(f"the guest said nothing that was asked for: {' / '.join(lines[-3:])}")
    return seen


def _settings(folder: str) -> Sequence[str]:
    """Name the parts of the machine: no hardware generator, from which its kernel would feed itself when it asks.

    Nothing in it can write to this machine's files.
    """
    root = ("root=98:0", "rootfstype=hostfs", "ro", f"init={sys.executable}")
    console = ("con=null", "con0=null,fd:1", "ssl=null", "quiet")
    return ("mem=384M", "initcall_blacklist=rng_init", *root, *console, f"uml_dir={folder}", "umid=guest")


def _live(words: Sequence[str]) -> str:
    with subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as guest:
        try:
            console, _ = guest.communicate(timeout=_BOOT_S)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(guest.pid, signal.SIGKILL)  # its processes are processes here
            raise
    return console.decode(errors="replace")


def _kept(package: str, sha256: str, suite: str = "") -> Path:
    """Return where the package with this content is unpacked; fetch it when it is not."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "drawwell" / "debian"
    kept = cache / sha256
    if kept.is_dir():
        return kept
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        _run("apt-get", "-qq", *_lists_of(suite, folder), "download", package, cwd=folder)
        archive = next(Path(folder).glob("*.deb"))
        if hashlib.sha256(archive.read_bytes()).hexdigest() != sha256:
            raise NoGuest(f"{archive.name} is not the one that is known here")
        _run("dpkg-deb", "-x", str(archive), f"{folder}/files", cwd=folder)
        with contextlib.suppress(FileExistsError):
            Path(folder, "files").rename(kept)
    return kept


def _lists_of(suite: str, folder: str) -> Sequence[str]:
    """Make lists of another suite of the archive that this machine uses, beside this machine's; "" is its own."""
    if not suite:
        return ("-o", "APT::Sandbox::User=root")
    if not os.path.exists(_KEYS):
        raise NoGuest(f"{_KEYS} is not there")
    origin = ("Created-By: Packages", "Origin: Debian", "Label: Debian")
    archives = _run("apt-get", "indextargets", "--format", "$(REPO_URI)", *origin, cwd=folder).split()
    if not archives:
        raise NoGuest("apt has no list of a Debian archive")
    for each in ("lists/partial", "cache/archives/partial"):
        Path(folder, each).mkdir(parents=True)
    Path(folder, "sources").write_text(f"deb [signed-by={_KEYS}] {archives[0]} {suite} main\n")
    settings = {
        "Dir::Etc::SourceList": f"{folder}/sources",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": f"{folder}/lists",
        "Dir::Cache": f"{folder}/cache",
        "APT::Sandbox::User": "root",
    }
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    _run("apt-get", "-qq", *options, "update", cwd=folder)
    return options


def _run(*words: str, cwd: str) -> str:
    if shutil.which(words[0]) is None:
        raise NoGuest(f"{words[0]} is not installed")
    try:
        done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=True, timeout=_BOOT_S)
    except subprocess.CalledProcessError as error:
        reason = (error.stderr or "").strip().splitlines()
        raise NoGuest(f"{' '.join(words[:1])}: {reason[-1] if reason else error}") from None
    except subprocess.TimeoutExpired:
        raise NoGuest(f"{words[0]} takes too long") from None
    return done.stdout
