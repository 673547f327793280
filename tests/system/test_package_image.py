"""The image of the Containerfile: unprivileged, on a read-only root."""

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
from support.kubernetes import documents

LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096")
NOISE = """[[source]]
name = "noise"
driver = "chardev"
path = "/dev/urandom"
allow_os_generator = true
min_entropy = 1.0
"""


def podman(*arguments: str | Path, check: bool = True) -> str:
    done = subprocess.run(
        ["podman", "--runtime", "runc", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )
    if check and done.returncode:
        raise AssertionError(f"podman {arguments[0]}: {done.stderr}")
    return done.stdout.strip()


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> Iterator[str]:
    """Build the image on a Debian root of the lab."""
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
        options = (
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
        podman("build", *options)
        yield made
    finally:
        podman("rmi", "--force", made, base, check=False)


@pytest.fixture
def running(image: str, tmp_path: Path) -> Iterator[str]:
    """Run an unprivileged container with a simulated source."""
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
    """Without privileges it serves, writes only state, and stops cleanly."""
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


class NodePod:
    """The DaemonSet's pod on a node, run by podman."""

    def __init__(self, image: str, folder: Path) -> None:
        self._image = image
        self._folder = folder
        self.spec = next(each for each in documents("node") if each["kind"] == "DaemonSet")
        self.names: list[str] = []
        for volume in ("run", "report"):
            (folder / volume).mkdir()
            (folder / volume).chmod(0o2777)  # like a kubelet's emptyDir for a pod with fsGroup
            os.chown(folder / volume, 0, 65532)
        (folder / "link.toml").write_text(
            '[broker]\nrun_dir = "/run/drawwell"\nstate_dir = "/run/drawwell/state"\n'
            '[kernel]\nfeed = true\n[[upstream]]\nurl = "unix:///well/draw.sock"\n'
        )

    def start(self, name: str) -> str:
        """Run a container of the pod; return its name, or its output at the end."""
        spec = self.spec["spec"]["template"]["spec"]
        initial = spec["initContainers"]
        container = next(each for each in (*initial, *spec["containers"]) if each["name"] == name)
        rights, unique = container["securityContext"], f"drawwell-{uuid.uuid4().hex[:8]}"
        added = [f"--cap-add={each}" for each in rights["capabilities"].get("add", ())]
        entry = [f"--entrypoint={container['command'][0]}"] if "command" in container else []
        options = (
            "--read-only", "--read-only-tmpfs=false", "--cap-drop=all", *added, "--network=none", *LIMITS, *entry,
            f"--user={rights['runAsUser']}:{rights['runAsGroup']}", "--security-opt=no-new-privileges",
            f"--group-add={spec['securityContext']['fsGroup']}",
            f"--volume={self._folder}/run:/run/drawwell",
            f"--volume={self._folder}/report:/run/drawwell-kernel",
            f"--volume={self._folder}/well:/well",
            f"--volume={self._folder}/link.toml:/etc/drawwell/drawwell.toml:ro",
        )  # fmt: skip
        command = (*container.get("command", ())[1:], *container.get("args", ()))
        if container in initial:
            return podman("run", "--rm", *options, self._image, *command)
        self.names.append(unique)
        return podman("run", "--detach", "--name", unique, *options, self._image, *command)


@pytest.mark.root
def test_the_node_pod_feeds_its_kernel(image: str, tmp_path: Path) -> None:
    """With the manifest's rights the link is ready and the kernel is fed."""
    pod, config = NodePod(image, tmp_path), tmp_path / "well.toml"
    config.write_text(f'{NOISE}[broker]\nrun_dir = "/well"\n')
    (tmp_path / "well").mkdir()
    os.chown(tmp_path / "well", 65532, 65532)
    tmp_path.chmod(0o755)
    pod.names.append(broker := f"drawwell-{uuid.uuid4().hex[:8]}")
    try:
        podman(
            "run", "--detach", "--name", broker, "--network=none", *LIMITS, f"--volume={tmp_path}/well:/well",
            f"--volume={config}:/etc/drawwell/conf.d/noise.toml:ro", image,
        )  # fmt: skip
        pod.start("directory")
        link = pod.start("link")
        pod.start("feeder")
        status = ("exec", link, "drawwell", "--quiet", "status", "--require", "ready")
        wait_until(lambda: "sink kernel: 64B in 1 deliveries" in printed(status), "the kernel is fed")
    finally:
        podman("rm", "--force", "--volumes", "--time", "1", *pod.names, check=False)


def printed(arguments: tuple[str, ...]) -> str:
    """Return podman's output if it succeeds."""
    done = subprocess.run(
        ["podman", "--runtime", "runc", *arguments], capture_output=True, text=True, check=False
    )
    return "" if done.returncode else done.stdout
