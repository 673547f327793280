"""Make targets on a Debian with only git, make and certificates."""

import configparser
import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.cache import or_skip, program
from lab.roots import ENVIRONMENT, Root, chroot
from support.documents import ROOT

pytestmark = [pytest.mark.root, pytest.mark.long]

BARE = ("git", "make", "ca-certificates")
TARGETS = ("demo", "deb", "quick")
MOST_DEMO_MIB = 60
FIRST_LINE_S = 1.0  # short: the time is measured
TARGET_S = 3600.0
PIP_FILES = (
    Path("/etc/pip.conf"),
    Path.home() / ".config/pip/pip.conf",
    Path("/etc/ssl/certs/ca-certificates.crt"),
)


@contextlib.contextmanager
def bare(suite: str) -> Iterator[Root]:
    """Create such a machine, with a user, checkouts and pip's settings."""
    with or_skip(), chroot(suite, BARE) as root, contextlib.ExitStack() as undo:
        shutil.copy("/etc/resolv.conf", root.path / "etc/resolv.conf")
        paths = set(_pip_paths())
        for path in filter(Path.is_file, paths):
            there = root.path / path.relative_to("/")
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, there)
        for path in sorted({each.parent for each in paths if each.is_dir()}):  # an index has files next to it
            there = root.path / path.relative_to("/")
            if not there.is_mount() and not any(
                parent.is_mount() for parent in there.parents if parent != root.path
            ):
                there.mkdir(parents=True, exist_ok=True)
                program("mount", "--bind", "-o", "ro", path, there)
                undo.callback(program, "umount", there)
        root.run("useradd", "--create-home", "visitor")
        for home in ("root", "home/visitor"):
            _check_out(root.path / home / "drawwell")
        root.run("chown", "-R", "visitor", "/home/visitor")
        yield root


def _pip_paths() -> Iterator[Path]:
    """Yield pip's configuration on this machine, and each path in it."""
    for file in filter(Path.is_file, PIP_FILES):
        yield file
        if file.suffix == ".conf":
            parser = configparser.RawConfigParser()
            parser.read(file)
            values = " ".join(value for name in parser.sections() for _, value in parser.items(name))
            yield from (Path(each) for each in re.findall(r"(?<![\w/])(?:file://)?(/[^\s:]+)", values))
    yield from (
        Path(value) for name, value in os.environ.items() if name.startswith("PIP_") and value[:1] == "/"
    )


def _check_out(folder: Path) -> None:
    """Copy all files that git keeps or would keep."""
    folder.mkdir()
    listed = ["git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, capture_output=True, check=True).stdout
    tar = ["tar", "-C", ROOT, "--null", "--files-from=-", "--ignore-failed-read", "--create"]
    packed = subprocess.run(tar, input=names, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-C", folder, "--extract"], input=packed, check=True)


def typed(root: Root, user: str, line: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the user's checkout."""
    command, environment = _entering(root, user, line)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
        start_new_session=True,
    ) as target:  # fmt: skip
        try:
            output, _ = target.communicate(timeout=TARGET_S)
        except BaseException:
            os.killpg(target.pid, signal.SIGKILL)  # its children would keep the root's mounts busy
            raise
    return subprocess.CompletedProcess(command, target.returncode, output)


def first_line_s(root: Root, user: str) -> float:
    """Return the seconds until the demo's first line, and end the demo."""
    command, environment = _entering(root, user, "exec make demo")
    began = time.monotonic()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, start_new_session=True
    ) as demo:
        assert demo.stdout
        line = demo.stdout.readline()
        took = time.monotonic() - began
        os.killpg(demo.pid, signal.SIGTERM)
        demo.stdout.read()  # until its last process has ended
    assert b"simulated" in line
    return took


def _entering(root: Root, user: str, line: str) -> tuple[list[str], dict[str, str]]:
    pip = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    home = "/root" if user == "root" else f"/home/{user}"
    command = [
        "chroot", str(root.path), "setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups",
        "sh", "-c", f"cd {home}/drawwell && {line}",
    ]  # fmt: skip
    return command, {**ENVIRONMENT, **pip, "HOME": home}


def demo_is_small_and_prompt(root: Root, user: str) -> None:
    """Check the environment's size, and the time to a later first line."""
    size = typed(root, user, "du --summarize --block-size=1M .demo").stdout.split()[0]
    assert int(size) <= MOST_DEMO_MIB
    took = [first_line_s(root, user) for _ in range(5)]  # the best of five: the machine may be busy
    assert min(took) <= FIRST_LINE_S


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_root_types_make_and_nothing_else(suite: str) -> None:
    """As root, each target installs missing packages and succeeds."""
    with bare(suite) as root:
        for target in TARGETS:
            done = typed(root, "root", f"make {target}")
            assert done.returncode == 0, f"{target}: {done.stdout[-4000:]}"
        assert list((root.path / "root/drawwell/dist").glob("*.deb"))
        demo_is_small_and_prompt(root, "root")


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_a_user_gets_the_one_line_that_is_missing(suite: str) -> None:
    """For a user, a target prints one command for root, then succeeds."""
    with bare(suite) as root:
        root.run("apt-get", "update", "-qq")
        assert "apt install python3 " in typed(root, "visitor", "make test").stdout
        for target in TARGETS:
            done = typed(root, "visitor", f"make {target}")
            if lines := re.findall(r"^ *apt install (.*)$", done.stdout, re.MULTILINE):
                assert len(lines) == 1
                assert done.returncode
                root.run("apt-get", "install", "--yes", "--no-install-recommends", *lines[0].split())
                done = typed(root, "visitor", f"make {target}")
            assert done.returncode == 0, f"{target}: {done.stdout[-4000:]}"
        demo_is_small_and_prompt(root, "visitor")
