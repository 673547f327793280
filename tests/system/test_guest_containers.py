"""Real Podman and Docker containers, made with the planned options."""

import json
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from drawwell.errors import GuestUnavailable
from drawwell.guests.docker.engine import Containers
from drawwell.guests.model import Attachment, Guest, GuestKind
from drawwell.testing.waiting import DEADLINE_S, wait_until
from lab.borrowed import drawwell, make_root, no_cgroup_left, our_folders, system_folders
from support.daemon import Daemon, StickThread, command

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for containers"),
]
IMAGE = "drawwell-test:1"
LIMITS = ("nofile=1024:1024", "nproc=4096:4096")
"""The usual limits exceed those allowed without CAP_SYS_RESOURCE."""


@dataclass(frozen=True)
class Engine:
    """Podman or Docker, with its own storage."""

    kind: GuestKind

    def __call__(self, *arguments: str, stdin: bytes | None = None) -> str:
        """Run the engine; return its output."""
        done = subprocess.run([str(self.kind), *arguments], input=stdin, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def make(self, *options: str, name: str = "web1") -> None:
        """Create a container with the host's programs and drawwell."""
        mounts = [
            f"--mount=type=bind,source={each},target={each},readonly"
            for each in (*system_folders(), *our_folders())
        ]
        limits = [f"--ulimit={each}" for each in LIMITS]
        self(
            "run",
            "-d",
            "--name",
            name,
            "--network",
            "none",
            *limits,
            *mounts,
            *options,
            IMAGE,
            "sleep",
            "1000",
        )

    def planned(self, guest: Guest) -> list[str]:
        """Return the options in the plan's command."""
        (line,) = [piece.text for piece in Containers(self.kind).plan(guest).pieces if piece.into == "paste"]
        engine, run, name, container, *options, image = shlex.split(line)
        assert (engine, run, name, container, image) == (self.kind, "run", "--name", guest.name, "IMAGE")
        return options


@pytest.fixture(scope="module", params=["podman", "docker"])
def _engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    name = request.param
    if not shutil.which(name) or (name == "docker" and not shutil.which("dockerd")):
        pytest.skip(f"{name} is not installed")
    folder = tmp_path_factory.mktemp(name)
    with pytest.MonkeyPatch.context() as patch, no_cgroup_left("docker", "libpod_parent", "libpod_parent/*"):
        made = (_podman if name == "podman" else _docker)(folder, patch)
        next(made)
        engine = Engine(GuestKind(name))
        root = make_root(folder / "root")
        tar = subprocess.run(["tar", "-C", str(root), "-c", "."], capture_output=True, check=True).stdout
        engine("import", "-", IMAGE, stdin=tar)
        yield engine
        next(made, None)


def _podman(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[None]:
    storage, config = folder / "storage.conf", folder / "containers.conf"
    storage.write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n'
    )
    runtime = "runc" if shutil.which("runc") else "crun"
    config.write_text(
        f'[engine]\nruntime = "{runtime}"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
        f'tmp_dir = "{folder}/tmp"\n'
    )
    patch.setenv("CONTAINERS_STORAGE_CONF", str(storage))
    patch.setenv("CONTAINERS_CONF", str(config))
    done = subprocess.run(["podman", "info"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"podman does not start here: {done.stderr.strip()[-200:]}")
    yield
    for each in ("graph/overlay", "run/overlay"):
        subprocess.run(["umount", "-l", folder / each], capture_output=True, check=False)


def _docker(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[None]:
    socket = f"/tmp/dw-docker-{os.getpid()}.sock"
    patch.setenv("DOCKER_HOST", f"unix://{socket}")
    server = ["dockerd", "--bridge=none", "--iptables=false", "--ip6tables=false", f"--host=unix://{socket}"]
    server += [f"--data-root={folder}/data", f"--exec-root={folder}/exec", f"--pidfile={folder}/pid"]
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(server, stdout=log, stderr=log)
    try:
        wait_until(
            lambda: (
                daemon.poll() is not None
                or subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0
            ),
            "dockerd answers",
        )
        if daemon.poll() is not None:
            pytest.skip(f"dockerd does not start here: {(folder / 'log').read_text()[-300:]}")
        yield
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(DEADLINE_S)
        Path(socket).unlink(missing_ok=True)


@pytest.fixture
def config(folder: Path) -> Iterator[Path]:
    """Return the configuration of a broker with a simulated stick."""
    path = folder / "drawwell.toml"
    path.write_text(
        f'[broker]\nname = "well"\nstate_dir = "{folder}/state"\nrun_dir = "{folder}/run"\n'
        f'[[source]]\nname = "stick"\ndriver = "onerng"\npath = "{folder}/onerng"\n'
    )
    with StickThread(folder / "onerng"):
        yield path


@pytest.fixture
def engine(_engine: Engine) -> Iterator[Engine]:
    """Return an engine with an empty image and no container."""
    yield _engine
    for container in _engine("ps", "--all", "--quiet").split():
        subprocess.run([_engine.kind, "kill", container], capture_output=True, check=False)
        _engine("rm", "--force", container)


def test_a_container_made_as_planned_draws_by_its_own_account(
    folder: Path, config: Path, engine: Engine
) -> None:
    """The container needs no configuration, and its own account grows."""
    guest = Guest(engine.kind, "web1", Attachment.SOCKET, run_dir=str(folder / "run"))
    for life in (1, 2):
        with Daemon("run", config=config, log=folder / f"log{life}") as broker:
            broker.wait_for_text("healthy")
            if life == 1:
                engine.make(name="web1-other")
                typo = command("guest", "apply", engine.kind, "web1-ohter", config=config)
                assert (typo.returncode, "Did you mean web1-other?" in typo.stderr) == (69, True), typo.stderr
                assert json.loads(command("guest", "list", "--json", config=config).stdout) == {"guests": []}
                engine("rm", "--force", "web1-other")
                done = command("guest", "apply", engine.kind, "web1", "--new", config=config)
                assert (done.returncode, "--mount" in done.stderr) == (0, True), done.stderr
                engine.make(*engine.planned(guest))
                assert Containers(engine.kind).apply(guest) == []
            before = _served(config)
            drawn = engine("exec", "web1", *drawwell("draw", "32", "--hex"))
            assert (len(drawn.strip()), _served(config)) == (64, before + 32)
            verified = command("guest", "verify", engine.kind, "web1", config=config)
            assert verified.returncode == 0, verified.stdout + verified.stderr
            assert _served(config) == before + 96
            assert subprocess.run(
                [engine.kind, "exec", "web1", "rm", "/run/drawwell/draw.sock"], check=False
            ).returncode
            broker.stop()
    assert [(each.name, "drawwell" in each.backend) for each in Containers(engine.kind).audit()] == [
        ("web1", True)
    ]


def _served(config: Path) -> int:
    (guest,) = json.loads(command("guest", "list", "--json", config=config).stdout)["guests"]
    return int(guest["full_bytes"])


def test_an_existing_container_without_it_is_refused(engine: Engine) -> None:
    """The container is not changed, and the hint has the options."""
    engine.make()
    with pytest.raises(GuestUnavailable, match="lacks the mount or device") as caught:
        Containers(engine.kind).apply(Guest(engine.kind, "web1", Attachment.SOCKET))
    assert "--mount type=bind,source=/run/drawwell/guests/web1" in (caught.value.hint or "")
    inside = Containers(engine.kind).inside(Guest(engine.kind, "web9", Attachment.SOCKET))
    assert inside
    with pytest.raises(GuestUnavailable, match="cannot run a program in container web9"):
        inside.run(["true"])


def test_a_device_is_there_under_the_name_of_a_stick(folder: Path, engine: Engine) -> None:
    """166:7 behind a link is allowed; a new container later gets 166:3."""
    link = folder / "stick"
    for minor in (7, 3):
        node = folder / f"node{minor}"
        os.mknod(node, 0o020660, os.makedev(166, minor))
        link.unlink(missing_ok=True)
        link.symlink_to(node)
        name = f"web{minor}"
        engine.make(*engine.planned(Guest(engine.kind, name, Attachment.DEVICE, device=str(link))), name=name)
        assert engine("exec", name, "stat", "-c", "%t:%T", "/dev/ttyACM0") == f"a6:{minor}\n"
        opened = subprocess.run(
            [engine.kind, "exec", name, "sh", "-c", "exec 3< /dev/ttyACM0"], capture_output=True, check=False
        )
        assert b"No such device or address" in opened.stderr
    engine("restart", "-t", "0", "web7")
    kept = engine.kind is GuestKind.PODMAN  # Docker resolves the link at every start, Podman at creation
    assert engine("exec", "web7", "stat", "-c", "%t:%T", "/dev/ttyACM0") == f"a6:{7 if kept else 3}\n"


def test_a_compose_project_gets_an_override(folder: Path, engine: Engine) -> None:
    """Labels identify it; a second apply changes nothing; removal is complete."""
    labels = {"com.docker.compose.project.working_dir": str(folder), "com.docker.compose.service": "web"}
    engine.make(*(f"--label={key}={value}" for key, value in labels.items()))
    guest, containers = Guest(engine.kind, "web1", Attachment.SOCKET), Containers(engine.kind)
    first, again = containers.apply(guest)
    assert (first.where, "up -d" in again.where) == (f"{folder}/drawwell-web1.yaml", True)
    assert '\n  "web":\n' in (folder / "drawwell-web1.yaml").read_text()
    assert containers.apply(guest) == []
    containers.remove(guest)
    assert list(folder.iterdir()) == []


def test_a_missing_daemon_is_an_error(folder: Path, engine: Engine) -> None:
    """An engine that does not answer is an error, not an empty list."""
    absent = Containers(engine.kind, str(folder / "absent.sock"))
    with pytest.raises(GuestUnavailable, match="does not answer") as caught:
        absent.audit()
    assert caught.value.hint
