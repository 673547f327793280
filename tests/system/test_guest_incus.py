"""A real Incus daemon and an unprivileged instance with systemd.

Debian has Incus since release 13, and in the backports of 12. The daemon runs in namespaces,
so it cannot use the host's vsock or network.
"""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from drawwell.errors import GuestUnavailable, UsageError
from drawwell.guests.incus import Incus
from drawwell.guests.model import Attachment, Guest, GuestKind
from drawwell.testing.waiting import DEADLINE_S, wait_until
from lab.borrowed import make_root, no_cgroup_left, system_folders
from support.daemon import Daemon, StickThread, command

INCUSD = next(
    filter(os.path.exists, ("/usr/libexec/incus/incusd", "/usr/bin/incusd", "/opt/incus/bin/incusd")), None
)
SYSTEMD = "/usr/lib/systemd/systemd"
pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for containers"),
    pytest.mark.long,  # Debian 12 has it only in backports
    pytest.mark.skipif(not INCUSD or not shutil.which("incus"), reason="Incus is not installed"),
    pytest.mark.skipif(
        not os.path.exists(SYSTEMD), reason="there is no systemd to be started in an instance"
    ),
]
OWN = f"lxc.init.cmd = {SYSTEMD} --unit=sysinit.target\n# the owner's line\n"
WITHOUT_VSOCK = """
import ctypes, errno, os, struct, sys
# seccomp(2): socket(AF_VSOCK, …) fails, all else is allowed
number = {"x86_64": 41, "aarch64": 198}[os.uname().machine]
program = b"".join(struct.pack("HBBI", *each) for each in (
    (0x20, 0, 0, 0), (0x15, 0, 3, number), (0x20, 0, 0, 16), (0x15, 0, 1, 40),
    (0x06, 0, 0, 0x00050000 | errno.EAFNOSUPPORT), (0x06, 0, 0, 0x7FFF0000)))
libc = ctypes.CDLL(None, use_errno=True)
buffer = ctypes.create_string_buffer(program)
filter_ = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, filter_, 0, 0) == 0, os.strerror(ctypes.get_errno())
os.execvp(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture(scope="module")
def incus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Run a daemon with an image `box`; yield its socket."""
    folder = tmp_path_factory.mktemp("incus")
    home = Path(f"/tmp/dw-incus-{os.getpid()}")
    home.mkdir(mode=0o711)
    inner = 'if [ -e /dev/vsock ]; then mount --bind /dev/null /dev/vsock; fi; exec "$@"'
    command = ["unshare", "-m", "-n", "--propagation", "private", "sh", "-c", inner, "sh"]
    command += [
        "/usr/bin/env",
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
        sys.executable,
        "-c",
        WITHOUT_VSOCK,
        str(INCUSD),
    ]
    log_file = (folder / "log").open("wb")
    with no_cgroup_left("lxc.*"), pytest.MonkeyPatch.context() as patch, log_file as log:
        patch.setenv("INCUS_DIR", str(home))
        daemon = subprocess.Popen([*command, "--group", "root"], stdout=log, stderr=log)
        try:
            wait_until(lambda: daemon.poll() is not None or _answers(), "Incus answers")
            if daemon.poll() is not None:
                pytest.skip(f"Incus does not start here: {(folder / 'log').read_text()[-300:]}")
            _prepare(folder)
            yield home / "unix.socket"
        finally:
            subprocess.run(
                ["incus", "admin", "shutdown"], capture_output=True, check=False, timeout=DEADLINE_S
            )
            daemon.kill()
            daemon.wait()
            subprocess.run(
                ["umount", "-l", home / "devices", home / "guestapi", home / "shmounts"],
                capture_output=True,
                check=False,
            )
            shutil.rmtree(home, ignore_errors=True)


def _answers() -> bool:
    return subprocess.run(["incus", "query", "/1.0"], capture_output=True, check=False).returncode == 0


def _incus(*arguments: str, stdin: str = "") -> str:
    done = subprocess.run(["incus", *arguments], capture_output=True, text=True, input=stdin, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _prepare(folder: Path) -> None:
    root = make_root(folder / "image" / "rootfs")
    metadata = folder / "image" / "metadata.yaml"
    metadata.write_text(f"architecture: {os.uname().machine}\ncreation_date: 1700000000\n")
    with tarfile.open(folder / "image.tar.gz", "w:gz") as tar:
        tar.add(metadata, "metadata.yaml")
        tar.add(root, "rootfs")
    _incus("storage", "create", "default", "dir")
    _incus("profile", "device", "add", "default", "root", "disk", "path=/", "pool=default")
    _incus("image", "import", str(folder / "image.tar.gz"), "--alias", "box")


@pytest.fixture
def instance(incus: Path) -> Iterator[str]:
    """Run an unprivileged instance with its own raw.lxc lines."""
    _incus("init", "box", "web1")
    for number, each in enumerate(system_folders()):
        _incus(
            "config",
            "device",
            "add",
            "web1",
            f"d{number}",
            "disk",
            f"source={each}",
            f"path={each}",
            "readonly=true",
        )
    _incus("config", "set", "web1", "raw.lxc=-", stdin=OWN)
    _start("start")
    yield "web1"
    _incus("delete", "--force", "web1")


def _start(*arguments: str) -> None:
    _incus(*arguments, "web1")
    up = ["incus", "exec", "-T", "web1", "--", "test", "-d", "/run/systemd/system"]
    wait_until(lambda: subprocess.run(up, capture_output=True, check=False).returncode == 0, "systemd is up")


def _described() -> dict[str, object]:
    found = json.loads(_incus("query", "/1.0/instances/web1"))
    config = {key: value for key, value in found["config"].items() if not key.startswith("volatile.")}
    return {"config": config, "devices": found["devices"]}


def test_an_instance_draws_at_once_and_after_a_restart(folder: Path, incus: Path, instance: str) -> None:
    """The disk appears at once, raw.lxc restores it; removal is complete."""
    config = folder / "drawwell.toml"
    config.write_text(
        f'[broker]\nname = "well"\nstate_dir = "{folder}/state"\nrun_dir = "{folder}/run"\n'
        f'[[source]]\nname = "stick"\ndriver = "onerng"\npath = "{folder}/onerng"\n'
    )
    folder.chmod(0o711)
    before = _described()
    where = ("incus", instance, "--connect", str(incus))
    with StickThread(folder / "onerng"), Daemon("run", config=config, log=folder / "log") as broker:
        broker.wait_for_text("healthy")
        done = command("guest", "apply", *where, config=config)
        assert done.returncode == 0, done.stderr
        for restarted in (False, True):
            if restarted:
                _start("restart", "--force")
            verified = command("guest", "verify", *where, config=config)
            assert verified.returncode == 0, verified.stdout + verified.stderr
        (guest,) = json.loads(command("guest", "list", "--json", config=config).stdout)["guests"]
        assert guest["full_bytes"] == 128
        assert (
            Incus(str(incus)).apply(
                Guest(GuestKind.INCUS, instance, Attachment.SOCKET, run_dir=f"{folder}/run")
            )
            == []
        )
        removed = command("guest", "apply", *where, "--remove", config=config)
        assert removed.returncode == 0, removed.stderr
        assert _described() == before
        broker.stop()


@pytest.fixture
def link() -> Iterator[Path]:
    """Create a link in /dev, like udev."""
    path = Path(f"/dev/drawwell-test-{os.getpid()}")
    path.symlink_to("zero")
    yield path
    path.unlink()


def test_a_device_is_added_to_a_running_instance(incus: Path, instance: str, link: Path) -> None:
    """A named stick is added by its link, the only stick by its IDs."""
    host, before = Incus(str(incus)), _described()
    named = Guest(GuestKind.INCUS, instance, Attachment.DEVICE, device=str(link))
    assert [change.where for change in host.apply(named)] == ["web1: device drawwell"]
    inside = host.inside(named)
    assert inside
    assert inside.run(["stat", "-c", "%a %g", "/dev/ttyACM0"]).output == b"660 20\n"
    host.apply(Guest(GuestKind.INCUS, instance, Attachment.DEVICE))
    assert inside.run(["test", "-e", "/dev/ttyACM0"]).status == 1
    assert '"type": "unix-hotplug"' in json.dumps(_described())
    host.remove(named)
    assert _described() == before


def test_what_cannot_be_done_is_an_error(folder: Path, incus: Path) -> None:
    """An unknown instance, no daemon, and a name that escapes the API's path."""
    host = Incus(str(incus))
    with pytest.raises(GuestUnavailable, match="the instance does not exist"):
        host.apply(Guest(GuestKind.INCUS, "web9", Attachment.SOCKET))
    with pytest.raises(UsageError):
        host.apply(Guest(GuestKind.INCUS, "web1", Attachment.SOCKET, domain="../instances"))
    with pytest.raises(GuestUnavailable, match="does not answer on") as caught:
        Incus(str(folder / "absent")).apply(Guest(GuestKind.INCUS, "web1", Attachment.SOCKET))
    assert "systemctl start incus" in (caught.value.hint or "")
    assert Incus(str(folder / "absent")).audit() == []
