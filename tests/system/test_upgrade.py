"""From release 0.1 to this one: what was joined goes on."""

import json
import os
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from drawwell.testing.waiting import DEADLINE_S, wait_until
from drawwell.wire.frames import Bye, Frame, Hello, Refusal, Welcome
from drawwell.wire.parser import FrameParser
from support.daemon import Daemon, StickThread, command
from support.station import Site

ROOT = Path(__file__).parents[2]
OLD = "d14f1a6"
"""The last commit of release 0.1."""
NOW: Mapping[str, str] = {}
SSH = '[ssh]\nuser = "{}"\n'
ACCOUNT = "nobody"  # wording: an account of the system
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The environment in which ``python -m drawwell`` is the old release."""
    folder = tmp_path_factory.mktemp("old")
    arguments = ["git", "-C", str(ROOT), "archive", OLD, "src"]
    packed = subprocess.run(arguments, capture_output=True, check=False)
    if packed.returncode:
        pytest.skip(f"the history here does not go back to {OLD}")
    subprocess.run(["tar", "-x", "-C", str(folder)], input=packed.stdout, check=True)
    return {"PYTHONPATH": str(folder / "src")}


class Machines:
    """One broker's machine and its consumers, each of either release."""

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
        line = self.typed(broker, "consumer", "invite", name).split()
        self.typed(joiner, *line[1:], "--dir", str(self.folder / name))

    def draws(self, release: Mapping[str, str], name: str) -> bool:
        drawn = self.typed(release, "draw", "8", "--hex", "--via", str(self.folder / name))
        return len(drawn.strip()) == 16

    def invite_key(self, release: Mapping[str, str], name: str, key: str) -> None:
        path = self.folder / key
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
        self.typed(release, "consumer", "invite", name, "--ssh-key", f"{path}.pub")

    def greeted(self, line: str) -> Frame:
        """What the SSH door answers to the line of a forced command."""
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
            machines.join(NOW, old, "old-joiner")
            for name in ("both-old", "new-joiner", "old-joiner"):
                assert machines.draws(old, name)
                assert machines.draws(NOW, name)
            lines_are_judged(machines)


def lines_are_judged(machines: Machines) -> None:
    """A line that names no key counts for a consumer of one key."""
    assert isinstance(machines.greeted("kept"), Welcome)
    assert isinstance(machines.greeted("moved"), Refusal)
    status = "\n".join(json.loads(machines.typed(NOW, "status", "--json"))["notes"])
    assert "kept (until the next release); moved (refused" in status
    doctor = command("doctor", config=machines.site.path)
    assert "kept (until the next release); moved (refused" in doctor.stdout
    listed = json.loads(machines.typed(NOW, "consumer", "list", "--json"))["consumers"]
    keys = {each["name"]: each["ssh_key"] for each in listed}
    assert isinstance(machines.greeted(f"moved {keys['moved']}"), Welcome)
    machines.typed(NOW, "consumer", "invite", "kept", "--ssh-key", str(machines.folder / "k1.pub"))
    assert isinstance(machines.greeted("kept"), Refusal)
    assert isinstance(machines.greeted(f"kept {keys['kept']}"), Welcome)
