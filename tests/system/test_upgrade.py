"""From release 0.1 to this one: joined machines keep working."""

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from drawwell.links.identity import load
from drawwell.testing.waiting import DEADLINE_S, wait_until
from drawwell.wire.frames import Bye, Frame, Hello, Refusal, Welcome
from drawwell.wire.parser import FrameParser
from lab.cache import or_skip
from lab.installed import install, ready
from lab.package import newer, package_of
from lab.roots import Root, chroot
from support.daemon import Daemon, StickThread, command
from support.signing import Host
from support.station import Site, own_address

OLD = "d14f1a6"
"""The last commit of release 0.1."""
NOW: Mapping[str, str] = {}
SSH = '[ssh]\nuser = "{}"\n'
ACCOUNT = "nobody"  # wording: an account of the system
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def old_deb() -> Path:
    """Return the Debian package of the old release."""
    with or_skip():
        return package_of(OLD)
    raise AssertionError


@pytest.fixture(scope="module")
def old(old_deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Return the environment in which ``python -m drawwell`` is the old one."""
    root = tmp_path_factory.mktemp("old")
    subprocess.run(["dpkg-deb", "--extract", old_deb, root], check=True)
    environment = {"PYTHONPATH": str(root / "usr" / "lib" / "python3" / "dist-packages")}
    where = subprocess.run(
        [sys.executable, "-c", "import drawwell; print(drawwell.__file__)"],
        env=os.environ | environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert where.stdout.startswith(str(root))
    return environment


class Machines:
    """A broker's machine and its consumers, each with either release."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.site = Site(folder, more=SSH.format(ACCOUNT))

    def broker(self, release: Mapping[str, str]) -> Daemon:
        return Daemon("broker", config=self.site.path, log=self.folder / "log", env=release)

    def typed(self, release: Mapping[str, str], *arguments: str) -> str:
        done = command(*arguments, config=self.site.path, env=release)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def until_ready(self, release: Mapping[str, str]) -> None:
        def ready() -> bool:
            done = command("status", "--json", config=self.site.path, env=release)
            return done.returncode == 0 and json.loads(done.stdout)["ready"]

        wait_until(ready, "the broker is ready")

    def join(self, broker: Mapping[str, str], joiner: Mapping[str, str], name: str) -> None:
        token = json.loads(self.typed(broker, "consumer", "invite", name, "--json"))["token"]
        self.typed(joiner, "join", token, "--dir", str(self.folder / name))

    def draws(self, release: Mapping[str, str], name: str) -> bool:
        drawn = self.typed(release, "draw", "8", "--hex", "--via", str(self.folder / name))
        return len(drawn.strip()) == 16

    def invite_key(self, release: Mapping[str, str], name: str, key: str) -> None:
        path = self.folder / key
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
        self.typed(release, "consumer", "invite", name, "--ssh-key", f"{path}.pub")

    def greeted(self, line: str) -> Frame:
        """Return the SSH door's answer to a forced command's line."""
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(DEADLINE_S)
            door.connect(str(self.folder / "run" / "ssh.sock"))
            door.sendall(line.encode() + b"\n" + Hello((1,)).encode() + Bye().encode())
            parser, said = FrameParser(), b""
            while piece := door.recv(4096):
                said += piece
        parser.feed(said)
        frame = parser.next_frame({kind.TYPE: kind for kind in (Welcome, Refusal, Bye)})
        assert frame is not None
        return frame


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to speak for an account")
def test_what_joined_goes_on_in_every_mixture(folder: Path, old: Mapping[str, str]) -> None:
    """Old and new consumers draw from old and new brokers."""
    machines = Machines(folder)
    with StickThread(folder / "stick", rate=0):
        with machines.broker(old) as broker:
            machines.until_ready(old)
            machines.join(old, old, "both-old")
            machines.join(old, NOW, "new-joiner")
            assert machines.draws(old, "both-old")
            assert machines.draws(NOW, "both-old")
            assert machines.draws(NOW, "new-joiner")
            machines.invite_key(old, "kept", "k1")
            machines.invite_key(old, "moved", "k2")
            machines.typed(old, "consumer", "revoke", "moved")
            machines.invite_key(old, "moved", "k3")
            assert broker.stop() == 0
        with machines.broker(NOW):
            machines.until_ready(NOW)
            with pytest.raises(AssertionError, match="the secret was not sent"):
                machines.join(NOW, old, "old-joiner")
            for name in ("both-old", "new-joiner"):
                assert machines.draws(old, name)
                assert machines.draws(NOW, name)
            lines_are_judged(machines)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to speak for an account")
def test_what_joined_draws_through_every_rotation(folder: Path, old: Mapping[str, str]) -> None:
    """A consumer that renewed once with the new release follows each rotation."""
    machines = Machines(folder)
    host = Host(machines.site)
    with StickThread(folder / "stick", rate=0):
        with machines.broker(old) as broker:
            machines.until_ready(old)
            machines.join(old, old, "web01")
            assert broker.stop() == 0
        with host.running():
            assert machines.draws(old, "web01")
            web01 = load(str(folder / "web01"))
            for key in ("", "receipts", "intermediate", "root", "finish-root", "intermediate"):
                if key:
                    host.rotate(key)
                assert host.draw(web01).data
                host.renew(web01)
                host.proved(web01)
        held = {path.name for path in (folder / "state").rglob("*key.pem")}
        assert held == {"server-key.pem", "enrol-key.pem"}


def lines_are_judged(machines: Machines) -> None:
    """Check that a line without a key works for a consumer with one key."""
    assert isinstance(machines.greeted("kept"), Welcome)
    assert isinstance(machines.greeted("moved"), Refusal)
    status = "\n".join(json.loads(machines.typed(NOW, "status", "--json"))["notes"])
    assert "kept (admitted until the next release); moved (refused" in status
    doctor = command("doctor", config=machines.site.path)
    assert "kept (admitted until the next release); moved (refused" in doctor.stdout
    listed = json.loads(machines.typed(NOW, "consumer", "list", "--json"))["consumers"]
    keys = {each["name"]: each["ssh_key"] for each in listed}
    assert isinstance(machines.greeted(f"moved {keys['moved']}"), Welcome)
    machines.typed(NOW, "consumer", "invite", "kept", "--ssh-key", str(machines.folder / "k1.pub"))
    assert isinstance(machines.greeted("kept"), Refusal)
    assert isinstance(machines.greeted(f"kept {keys['kept']}"), Welcome)


CONFIGURATION = """[broker]
name = "well"
[tls]
listen = "{address}:55000"
names = ["{address}"]
[[source]]
name = "noise"
driver = "chardev"
path = "/dev/urandom"
allow_os_generator = true
min_entropy = 1.0
"""


@pytest.mark.long
def test_the_debian_package_is_upgraded(old_deb: Path, deb: Path) -> None:
    """After the upgrade, what the old package installed and joined works."""
    with or_skip(), chroot() as root, newer(deb, "9.0") as new_deb:
        install(root, old_deb)
        configuration = root.path / "etc/drawwell/conf.d/site.toml"
        configuration.write_text(CONFIGURATION.format(address=own_address()))
        with serving(root):
            token = json.loads(
                root.run("drawwell", "--quiet", "--json", "consumer", "invite", "web01").stdout
            )["token"]
            root.run("drawwell", "join", token, "--dir", "/root/identity")
            assert len(drawn(root)) == 16
        install(root, new_deb)
        assert "is valid" in root.run("drawwell", "config", "check").stdout
        with serving(root):
            assert len(drawn(root)) == 16
            assert "web01" in root.run("drawwell", "consumer", "list").stdout


@contextlib.contextmanager
def serving(root: Root) -> Iterator[None]:
    """Run a broker as configured in the root."""
    enter = ("chroot", str(root.path), "drawwell")
    configuration = Path("/etc/drawwell/conf.d/site.toml")
    with Daemon("run", config=configuration, log=root.path / "root" / "log", program=enter) as broker:
        wait_until(lambda: ready(root) or not broker.running, "the broker is ready")
        assert broker.running, (root.path / "root" / "log").read_text()
        yield
        assert broker.stop() == 0


def drawn(root: Root) -> str:
    return root.run("drawwell", "--quiet", "draw", "8", "--hex", "--via", "/root/identity").stdout.strip()
