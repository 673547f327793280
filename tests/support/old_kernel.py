"""A guest with Debian 11's kernel, whose 4,096-bit pool requests bytes.

The guest is User Mode Linux, a program that needs neither permissions nor a virtual machine.
Its root is this machine's root, read-only (hostfs), so it can run the programs installed here.
Debian signs the package, and apt checks the signature.
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
"""Debian 11. Its later 5.10 kernels have the generator of 5.18; this older build does not."""
GUEST: Final = "user-mode-linux"
GUEST_SHA256: Final = "2cf4c2b2b36272b0b42c973d1239b4e73ad24c53d1a041a227f28bbee9b7082b"  # 5.10um3+b1, amd64
SEEN: Final = "SEEN "
"""The prefix of each JSON document that a program in the guest reports."""
_KEYS: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"
_BOOT_S: Final = DEADLINE_S
"""Time limit of a guest; it usually takes about ten seconds."""


class NoGuest(Exception):
    """The guest or its programs are unavailable; the message has the reason."""


def guest_kernel() -> Path:
    """Return the path of the guest, a program.

    Raises:
        NoGuest: the package is not in the cache and cannot be fetched.
    """
    if os.uname().machine != "x86_64":
        raise NoGuest("the guest runs on amd64 only")
    return _kept(GUEST, GUEST_SHA256, SUITE) / "usr/bin/linux.uml"


def unpacked(package: str) -> Path:
    """Return a directory with the files of a package that is not installed.

    Raises:
        NoGuest: the package is not in the cache and cannot be fetched.
    """
    with tempfile.TemporaryDirectory() as empty:  # apt prints no URI for a file in the directory
        listed = _run("apt-get", "download", "--print-uris", package, cwd=empty).split()
    digests = [word.removeprefix("SHA256:") for word in listed if word.startswith("SHA256:")]
    if len(digests) != 1:
        raise NoGuest(f"apt knows no package {package}")
    return _kept(package, digests[0])


def boot(*arguments: str) -> list[dict[str, Any]]:
    """Run a script as the guest's first process; return its reports.

    Args:
        arguments: The Python script and its arguments.

    Raises:
        NoGuest: the guest reported nothing.
    """
    with tempfile.TemporaryDirectory(prefix="dw-") as folder:
        console = _live([str(guest_kernel()), *_settings(folder), "--", *arguments])
    lines = [line.strip() for line in console.splitlines()]
    seen = [json.loads(line.removeprefix(SEEN)) for line in lines if line.startswith(SEEN)]
    if not seen:
        raise NoGuest(f"the guest reported nothing: {' / '.join(lines[-3:])}")
    return seen


def _settings(folder: str) -> Sequence[str]:
    """Return the guest's settings, without a hardware generator.

    With such a generator, the guest's kernel would feed itself. The guest cannot write to this
    machine's files.
    """
    root = ("root=98:0", "rootfstype=hostfs", "ro", f"init={sys.executable}")
    console = ("con=null", "con0=null,fd:1", "ssl=null", "quiet")
    return ("mem=384M", "initcall_blacklist=rng_init", *root, *console, f"uml_dir={folder}", "umid=guest")


def _live(command: Sequence[str]) -> str:
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as guest:
        try:
            console, _ = guest.communicate(timeout=_BOOT_S)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(guest.pid, signal.SIGKILL)  # the guest's processes are processes of this machine
            raise
    return console.decode(errors="replace")


def _kept(package: str, sha256: str, suite: str = "") -> Path:
    """Return the unpacked package with this hash; fetch it if needed."""
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
    """Create package lists for another suite, separate from this machine's."""
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


def _run(*command: str, cwd: str) -> str:
    if shutil.which(command[0]) is None:
        raise NoGuest(f"{command[0]} is not installed")
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True, timeout=_BOOT_S)
    except subprocess.CalledProcessError as error:
        reason = (error.stderr or "").strip().splitlines()
        raise NoGuest(f"{' '.join(command[:1])}: {reason[-1] if reason else error}") from None
    except subprocess.TimeoutExpired:
        raise NoGuest(f"{command[0]} takes too long") from None
    return done.stdout
