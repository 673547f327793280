"""The Containerfile: an image of the package that serves as nobody in particular, on a read-only root file system."""

import os
import shutil
import subprocess
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from drawwell.testing.waiting import DEADLINE_S, wait_until
from lab.cache import or_skip
from lab.package import TREE, package
from lab.roots import minbase

LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096")
NOISE = """[[source]]
name = "noise"
driver = "chardev"
path = "/dev/urandom"
allow_os_generator = true
min_entropy = 1.0
"""


def podman(*words: str | Path, check: bool = True) -> str:
    done = subprocess.run(
        ["podman", "--runtime", "runc", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )
    if check and done.returncode:
        raise AssertionError(f"podman {words[0]}: {done.stderr}")
    return done.stdout.strip()


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> Iterator[str]:
    """The image, built upon a Debian root of the lab instead of one from a registry."""
    if os.geteuid() != 0 or not shutil.which("podman"):
        pytest.skip("needs root and podman")
    folder = tmp_path_factory.mktemp("image")
    base, made = (
        f"localhost/drawwell-base:{uuid.uuid4().hex[:8]}",
        f"localhost/drawwell:{uuid.uuid4().hex[:8]}",
    )
    with or_skip():
        deb, root = package(), minbase()
    (folder / "dist").mkdir()
    shutil.copy(deb, folder / "dist")
    shutil.copy(TREE / "Containerfile", folder)
    with tarfile.open(folder / "root.tar", "w") as archive:
        archive.add(root, arcname=".")
    podman("import", "--quiet", folder / "root.tar", base)
    try:
        words = (
            "--quiet",
            "--network",
            "none",
            *LIMITS,
            "--build-arg",
            f"BASE={base}",
            "--tag",
            made,
            folder,
        )
        podman("build", *words)
        yield made
    finally:
        podman("rmi", "--force", made, base, check=False)


@pytest.fixture
def running(image: str, tmp_path: Path) -> Iterator[str]:
    """A container of it with every right taken away and a source that every machine has."""
    config, name = tmp_path / "noise.toml", f"drawwell-{uuid.uuid4().hex[:8]}"
    config.write_text(NOISE)
    mount = f"{config}:/etc/drawwell/conf.d/noise.toml:ro"
    options = ("--read-only", "--read-only-tmpfs=false", "--cap-drop=all", "--network", "none", *LIMITS)
    podman("run", "--detach", "--rm", "--name", name, *options, "--volume", mount, image)
    try:
        yield name
    finally:
        podman("rm", "--force", "--volumes", "--time", "1", name, check=False)


@pytest.mark.slow
def test_the_image_serves_without_rights(running: str) -> None:
    """Not root, no capability, nothing writable but its state and its sockets: it serves, and ends when told to."""
    wait_until(
        lambda: podman("exec", running, "drawwell", "status", "--require", "ready", check=False),
        "it is ready",
    )
    assert len(podman("exec", running, "drawwell", "draw", "32", "--hex")) == 64
    assert podman("exec", running, "id", "-u") == "65532"
    assert podman("exec", running, "sh", "-c", "touch /new 2>/dev/null || echo no") == "no"
    capabilities = podman("exec", running, "sh", "-c", "grep CapEff /proc/1/status").split()[-1]
    assert int(capabilities, 16) == 0
    podman("stop", "--time", "20", running)
    assert running not in podman("ps", "--all", "--format", "{{.Names}}")
