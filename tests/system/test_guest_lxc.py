"""Real LXC containers, privileged and unprivileged, on cgroup v1 and v2."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from drawwell.guests.inside.probes import read_stick
from drawwell.guests.lxc import Lxc
from drawwell.guests.model import Attachment, Guest, GuestCommandResult, GuestKind
from drawwell.testing.waiting import wait_until
from lab.borrowed import drawwell, make_root, no_cgroup_left, our_folders, system_folders
from support.daemon import Daemon, StickThread, command

TURNED_AWAY = """\
import socket
with socket.socket(socket.AF_UNIX) as sock:
    sock.connect("/run/drawwell/draw.sock")
    print(sock.recv(1))
"""
pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for containers"),
    pytest.mark.skipif(not shutil.which("lxc-start"), reason="LXC is not installed"),
]
MAPPED = 100000
ONLY_CGROUP2 = "umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup"
"""A mount namespace like that of a host with only cgroup v2."""
HYBRID = Path("/sys/fs/cgroup/devices").is_dir()


@dataclass(frozen=True)
class Box:
    """A container `name` below `path`."""

    path: Path
    name: str
    uid: int | None = None

    @property
    def config(self) -> Path:
        """Path of the container's configuration."""
        return self.path / self.name / "config"

    def make(self, *more: str) -> "Box":
        """Write what lxc-create would write, plus `more` lines."""
        root = make_root(self.path / self.name / "rootfs", self.uid or 0)
        mounted = [*system_folders(), *([] if self.uid else our_folders())]
        lines = ["lxc.include = /usr/share/lxc/config/common.conf"]
        if self.uid:
            lines.append("lxc.include = /usr/share/lxc/config/userns.conf")
            lines += [f"lxc.idmap = {each} 0 {self.uid} 65536" for each in "ug"]
        lines += [
            f"lxc.uts.name = {self.name}", f"lxc.rootfs.path = dir:{root}", "lxc.net.0.type = empty",
            "lxc.apparmor.profile = unconfined", "lxc.init.cmd = /usr/bin/sleep 1000", *more,
            *(f"lxc.mount.entry = {each} {each[1:]} none bind,ro,create=dir 0 0" for each in mounted),
        ]  # fmt: skip
        self.config.write_text("\n".join(lines) + "\n")
        return self

    def start(self, before: str = ":") -> None:
        """Restart the container after `before` ran in its mount namespace."""
        self.stop()
        ids = self.path / "ids"
        ids.write_text(f"root:{MAPPED}:65536\n")
        script = f"""set -e
            for each in /etc/subuid /etc/subgid; do [ ! -e $each ] || mount --bind {ids} $each; done
            {before}
            exec lxc-start -P {self.path} -n {self.name} -l info -o {self.path}/{self.name}.log"""
        done = subprocess.run(
            ["unshare", "-m", "--propagation", "private", "sh", "-c", script],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr + (self.path / f"{self.name}.log").read_text()

    def stop(self) -> None:
        """Stop the container immediately."""
        subprocess.run(["lxc-stop", "-k", "-P", self.path, "-n", self.name], capture_output=True, check=False)

    def guest(self, via: Attachment, device: str = "") -> Guest:
        """Return the container as a guest."""
        return Guest(GuestKind.LXC, self.name, via, device=device)

    def run(self, *argv: str) -> GuestCommandResult:
        """Run a program in the container, like drawwell."""
        inside = Lxc(str(self.path)).inside(self.guest(Attachment.SOCKET))
        assert inside
        return inside.run(list(argv))


@pytest.fixture(scope="module", autouse=True)
def _cgroups() -> Iterator[None]:
    """Remove the empty cgroups that LXC leaves behind."""
    with no_cgroup_left("lxc.*"):
        yield


@pytest.fixture
def path(folder: Path) -> Path:
    """Return a container directory that an unprivileged root can enter."""
    folder.chmod(0o711)
    (folder / "lxc").mkdir(mode=0o711)
    return folder / "lxc"


@pytest.fixture
def privileged(path: Path) -> Iterator[Box]:
    """Return a container with the host's root."""
    box = Box(path, "web1").make()
    yield box
    box.stop()


@pytest.fixture
def unprivileged(path: Path) -> Iterator[Box]:
    """Return a container with an unprivileged user as root."""
    box = Box(path, "web2", MAPPED).make()
    yield box
    box.stop()


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


def served(config: Path, name: str) -> int:
    """Return the bytes that the broker has granted to a guest."""
    guests = json.loads(command("guest", "list", "--json", config=config).stdout)["guests"]
    return next(each["full_bytes"] for each in guests if each["name"] == name)


def ask(config: Path, box: Box, verb: str, *arguments: str) -> str:
    """Run ``drawwell guest VERB lxc NAME``; return its output."""
    done = command("guest", verb, "lxc", box.name, "--connect", str(box.path), *arguments, config=config)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_container_draws_unconfigured_and_by_its_own_account(
    folder: Path, config: Path, privileged: Box
) -> None:
    """The container needs no configuration, and its own account grows."""
    own = privileged.config.read_bytes()
    for life in (1, 2):
        with Daemon("run", config=config, log=folder / f"log{life}") as broker:
            broker.wait_for_text("healthy")
            if life == 1:
                ask(config, privileged, "apply", "--quota", "1MiB/day")
                assert "nothing" in ask(config, privileged, "apply").lower()
                privileged.start()
            wait_until(
                lambda: privileged.run("test", "-S", "/run/drawwell/draw.sock").status == 0,
                "a socket is there",
            )
            before = served(config, "web1")
            drawn = privileged.run(*drawwell("draw", "32", "--hex"))
            assert (drawn.status, len(drawn.output.strip())) == (0, 64), drawn.errors
            assert served(config, "web1") == before + 32
            if life == 2:
                ask(config, privileged, "apply", "--remove")
                assert privileged.config.read_bytes() == own
            broker.stop()


def test_an_unprivileged_container_draws(folder: Path, config: Path, unprivileged: Box) -> None:
    """The container's root is admitted, other users are not."""
    with Daemon("run", config=config, log=folder / "log") as broker:
        broker.wait_for_text("healthy")
        ask(config, unprivileged, "apply")
        unprivileged.start()
        other = ("setpriv", "--reuid=1000", "--clear-groups", "/usr/bin/python3", "-c", TURNED_AWAY)
        assert unprivileged.run(*other).output == b"b''\n"
        assert "from inside" in ask(config, unprivileged, "verify", "--json")
        assert served(config, "web2") == 64
        assert unprivileged.run("test", "-w", "/run/drawwell").status == 1
        broker.stop()


def test_a_container_starts_without_a_broker_and_verify_fails(
    folder: Path, config: Path, privileged: Box
) -> None:
    """The container starts without the directory, and later has the socket."""
    with Daemon("run", config=config, log=folder / "log") as broker:
        broker.wait_for_text("healthy")
        ask(config, privileged, "apply")
        broker.stop()
    shutil.rmtree(folder / "run")
    privileged.start()
    assert privileged.run("ls", "/run/drawwell").output == b""
    with Daemon("run", config=config, log=folder / "log2") as broker:
        broker.wait_for_text("healthy")
        verified = command("guest", "verify", "lxc", "web1", "--connect", str(privileged.path), config=config)
        assert (verified.returncode, "nothing answers on /run/drawwell/draw.sock" in verified.stdout) == (
            1,
            True,
        )
        privileged.start()
        ask(config, privileged, "verify")
        broker.stop()


@pytest.mark.skipif(
    not os.path.exists("/usr/lib/systemd/systemd"), reason="there is no systemd to be started"
)
def test_systemd_in_the_container_does_not_hide_the_socket(folder: Path, path: Path) -> None:
    """Without the plan's mount of /run, systemd would hide our directory."""
    directory = folder / "run" / "guests" / "web3"
    directory.mkdir(parents=True)
    (directory / "here").touch()
    unit = "lxc.init.cmd = /usr/lib/systemd/systemd --unit=sysinit.target"
    box = Box(path, "web3").make(unit)
    guest = Guest(GuestKind.LXC, "web3", Attachment.SOCKET, run_dir=str(folder / "run"))
    try:
        Lxc(str(path)).apply(guest)
        planned = box.config.read_text()
        for text, seen in ((planned, True), (planned.replace("lxc.mount.entry = tmpfs run", "#"), False)):
            box.config.write_text(text)
            box.start()
            wait_until(lambda: box.run("test", "-d", "/run/systemd/system").status == 0, "systemd is up")
            assert (box.run("test", "-e", "/run/drawwell/here").status == 0) is seen
    finally:
        box.stop()


@pytest.mark.parametrize("cgroups", ["as they are", pytest.param("version 2", marks=pytest.mark.skipif(
    not HYBRID, reason="this host has only cgroup v2: the other test covers it"))])  # fmt: skip
def test_a_node_that_is_denied_by_default_is_allowed_by_its_key(
    folder: Path, privileged: Box, cgroups: str
) -> None:
    """The node can be opened only with the plan's keys."""
    before = ONLY_CGROUP2 if cgroups == "version 2" else ":"
    link = _link(folder, 1, 11)  # /dev/kmsg: in every kernel, but not allowed by LXC
    lxc, guest = Lxc(str(privileged.path)), privileged.guest(Attachment.DEVICE, str(link))
    lxc.apply(guest)
    planned = privileged.config.read_text()
    assert "lxc.cgroup2.devices.allow = c 1:11 rwm\nlxc.cgroup.devices.allow = c 1:11 rwm\n" in planned
    opened = {}
    for keys, text in (
        (True, planned),
        (False, planned.replace("devices.allow = c 1:11", "devices.deny = c 1:11")),
    ):
        privileged.config.write_text(text)
        privileged.start(before)
        opened[keys] = privileged.run("sh", "-c", "exec 3< /dev/ttyACM0").errors
        assert privileged.run("sh", "-c", "exec 3< /dev/null").status == 0
    assert (opened[True], "Operation not permitted" in opened[False]) == ("", True)


@pytest.mark.skipif(not HYBRID, reason="this host has only cgroup v2")
def test_no_key_denies_an_unprivileged_container_its_devices(folder: Path, unprivileged: Box) -> None:
    """An allow key would deny other devices; without it, they can be read."""
    link = _link(folder, 1, 5, owner=MAPPED)
    Lxc(str(unprivileged.path)).apply(unprivileged.guest(Attachment.DEVICE, str(link)))
    planned = unprivileged.config.read_text()
    unprivileged.start(ONLY_CGROUP2)
    assert unprivileged.run("head", "-c", "4", "/dev/ttyACM0", "/dev/zero").status == 0
    unprivileged.config.write_text(planned + "lxc.cgroup2.devices.allow = c 1:5 rwm\n")
    unprivileged.start(ONLY_CGROUP2)
    assert "Operation not permitted" in unprivileged.run("head", "-c", "4", "/dev/urandom").errors


def test_a_stick_that_was_renumbered_is_found_at_the_next_start(folder: Path, privileged: Box) -> None:
    """The container gets 166:7 now and 166:3 at a later start, both allowed."""
    link = _link(folder, 166, 7)
    Lxc(str(privileged.path)).apply(privileged.guest(Attachment.DEVICE, str(link)))
    for minor in (7, 3):
        _link(folder, 166, minor)
        privileged.start()
        assert privileged.run("stat", "-c", "%Hr:%Lr", "/dev/ttyACM0").output == f"166:{minor}\n".encode()
        assert "No such device or address" in privileged.run("sh", "-c", "exec 3< /dev/ttyACM0").errors


def test_the_hook_finds_the_stick_by_vendor_and_product(folder: Path, privileged: Box) -> None:
    """The hook ignores another ACM device; without a stick there is no node."""
    Lxc(str(privileged.path)).apply(privileged.guest(Attachment.DEVICE))
    usb = folder / "bus" / "usb" / "devices"
    for port, product, minor in (("1-1", "0483:5740", 1), ("1-2", "1d50:6086", 5)):
        tty = usb / port / f"{port}:1.0" / "tty" / f"ttyACM{minor}"
        tty.mkdir(parents=True)
        (tty / "dev").write_text(f"166:{minor}\n")
        (usb / port / "idVendor").write_text(f"{product.partition(':')[0]}\n")
        (usb / port / "idProduct").write_text(f"{product.partition(':')[2]}\n")
    seen = f"mount --rbind {folder}/bus /sys/bus"
    for minor in (5, 8):
        (usb / "1-2" / "1-2:1.0" / "tty" / "ttyACM5" / "dev").write_text(f"166:{minor}\n")
        privileged.start(seen)
        assert (
            privileged.run("stat", "-c", "%Hr:%Lr %a %g", "/dev/ttyACM0").output
            == f"166:{minor} 660 20\n".encode()
        )
        assert "No such device or address" in privileged.run("sh", "-c", "exec 3< /dev/ttyACM0").errors
    shutil.rmtree(usb / "1-2")
    privileged.start(seen)
    assert privileged.run("test", "-e", "/dev/ttyACM0").status == 1


def test_a_simulated_stick_is_read_in_the_container(folder: Path, privileged: Box) -> None:
    """The stick's noise arrives, and after a renumbering again at a restart."""
    with StickThread(folder / "onerng", rate=0) as stick:
        guest = privileged.guest(Attachment.DEVICE, str(folder / "onerng"))
        Lxc(str(privileged.path)).apply(guest)
        names = []
        for _ in range(2):
            names.append(os.readlink(folder / "onerng"))
            privileged.start()
            inside = Lxc(str(privileged.path)).inside(guest)
            assert inside
            assert len(set(read_stick(inside, "ttyACM0", 4, 20.0))) > 10
            privileged.stop()
            stick.do("unplug")
            taken = os.openpty()
            stick.do("replug")
            for each in taken:
                os.close(each)
        assert names[0] != names[1]


def test_verify_reads_the_stick_in_the_container(folder: Path, config: Path, privileged: Box) -> None:
    """verify uses the name in the container, whatever the name on the host."""
    with StickThread(folder / "other", rate=0), Daemon("run", config=config, log=folder / "log") as broker:
        broker.wait_for_text("healthy")
        ask(config, privileged, "apply", "--via", "device", "--device", str(folder / "other"))
        privileged.start()
        assert "the OneRNG can be read: 64 bytes" in " ".join(ask(config, privileged, "verify").split())
        broker.stop()


def test_what_cannot_be_done_is_an_error(folder: Path, config: Path, path: Path) -> None:
    """Missing and stopped containers have different hints."""
    with Daemon("run", config=config, log=folder / "log") as broker:
        broker.wait_for_text("Ctrl-C stops")
        missing = command("guest", "apply", "lxc", "web9", "--connect", str(path), config=config)
        assert (missing.returncode, "no container web9" in missing.stderr) == (69, True)
        assert "lxc-create" in missing.stderr
        assert json.loads(command("guest", "list", "--json", config=config).stdout) == {"guests": []}
        Box(path, "web4").make()
        verified = command("guest", "verify", "lxc", "web4", "--connect", str(path), config=config)
        assert verified.returncode != 0
        assert "lxc-start" in verified.stderr + verified.stdout


def _link(folder: Path, major: int, minor: int, owner: int = 0) -> Path:
    """Return a link to the node with this number, at a constant path."""
    node, link = folder / f"node-{major}-{minor}", folder / "stick"
    if not node.exists():
        os.mknod(node, 0o020660, os.makedev(major, minor))
        os.chown(node, owner, owner)
    with suppress(FileNotFoundError):
        link.unlink()
    link.symlink_to(node)
    return link
