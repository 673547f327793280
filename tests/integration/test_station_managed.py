"""The daemon with a scripted service manager: notices and sockets."""

import json
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from drawwell.testing.waiting import DEADLINE_S, wait_until
from support.daemon import PROGRAM, Daemon, StickThread, command
from support.station import Site

pytestmark = pytest.mark.slow

ACTIVATE = """
import fcntl, os, sys
names, count = sys.argv[1], len(sys.argv[1].split(":"))
fds = [int(fd) for fd in sys.argv[2].split(",")]
for index, fd in enumerate(fds):
    os.dup2(fd, 3 + index)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(count), LISTEN_FDNAMES=names)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""The service manager's steps between fork and exec."""


class Notices:
    """The notifications that the manager received, in order."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)
        self.lines: list[str] = []

    def until(self, start: str) -> str:
        """Wait for a line with this prefix, after those already seen."""

        def look() -> str:
            try:
                while True:
                    self.lines += self._socket.recv(65536).decode().splitlines()
            except BlockingIOError:
                pass
            return next((line for line in self.lines if line.startswith(start)), "")

        found = wait_until(look, f"{start!r} arrives")
        del self.lines[: self.lines.index(found) + 1]
        return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def notices(folder: Path) -> Iterator[Notices]:
    manager = Notices(folder / "notify")
    yield manager
    manager.close()


def managed(folder: Path, site: Site) -> Daemon:
    env = {"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": "3000000"}
    return Daemon("broker", config=site.path, log=folder / "log", env=env)


def test_the_manager_gets_the_state(folder: Path, notices: Notices) -> None:
    """READY, its rate, watchdog, a stall with its cause, and STOPPING."""
    site = Site(folder)
    with StickThread(folder / "stick", seed=1, rate=0) as stick, managed(folder, site) as daemon:
        notices.until("READY=1")
        assert (folder / "run" / "draw.sock").is_socket()
        assert notices.until("STATUS=healthy").endswith("/s full entropy, 0 consumers")
        notices.until("WATCHDOG=1")
        stick.do("set_fault", "silent")
        notices.until("STATUS=STALLED ")
        stick.do("unplug")
        assert notices.until("STATUS=no source").endswith("/stick does not exist")
        assert daemon.stop() == 0
        notices.until("STOPPING=1")


def test_a_broken_configuration_leaves_the_old_one_and_is_shown(folder: Path, notices: Notices) -> None:
    """After SIGHUP the fault is in status line, log and `status`."""
    site = Site(folder)
    with managed(folder, site) as daemon:
        notices.until("READY=1")
        good = site.path.read_text()
        site.path.write_text(good + "[brokre]\n")
        daemon.send(signal.SIGHUP)
        notices.until("RELOADING=1")
        notices.until("READY=1")
        notices.until("STATUS=no source")
        notes = json.loads(command("status", "--json", config=None, env=control(folder)).stdout)["notes"]
        assert any("brokre" in note for note in notes)
        assert "brokre" in daemon.output
        site.path.write_text(good)
        daemon.send(signal.SIGHUP)
        notices.until("RELOADING=1")
        notices.until("READY=1")
        status = json.loads(command("status", "--json", config=site.path).stdout)
        assert not any("brokre" in note for note in status["notes"])
        assert daemon.stop() == 0


def control(folder: Path) -> dict[str, str]:
    """Return an environment that finds the broker without its configuration."""
    good = folder / "elsewhere.toml"
    good.write_text(f'[broker]\nstate_dir = "{folder}/state"\nrun_dir = "{folder}/run"\n')
    return {"DRAWWELL_CONFIG": str(good)}


def test_sockets_that_are_handed_over_outlive_it(folder: Path) -> None:
    """The daemon serves the manager's sockets; a queued client waits."""
    site = Site(folder)
    (folder / "run").mkdir(mode=0o700)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "run" / "draw.sock"))
    listener.listen()
    program = [sys.executable, "-c", ACTIVATE, "unix", str(listener.fileno()), *PROGRAM]

    def life() -> Daemon:
        return Daemon(
            "broker", config=site.path, log=folder / "log", program=program, pass_fds=[listener.fileno()]
        )

    with StickThread(folder / "stick", seed=1, rate=0):
        with life() as daemon:
            daemon.wait_for_text("healthy")
            assert command("draw", "8", "--hex", config=site.path).returncode == 0
            assert daemon.stop() == 0
        assert (folder / "run" / "draw.sock").is_socket()
        with socket.socket(socket.AF_UNIX) as early:
            early.settimeout(DEADLINE_S)
            early.connect(str(folder / "run" / "draw.sock"))
            early.sendall(b"GET")
            with life():
                assert early.recv(1)  # it sends BYE to a peer with another protocol
    listener.close()


def test_a_socket_that_is_elsewhere_is_not_used(folder: Path) -> None:
    """A socket with another path than the configuration is not used."""
    site = Site(folder)
    (folder / "other").mkdir()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "other" / "draw.sock"))
    listener.listen()
    program = [sys.executable, "-c", ACTIVATE, "unix", str(listener.fileno()), *PROGRAM]
    with Daemon(
        "broker", config=site.path, log=folder / "log", program=program, pass_fds=[listener.fileno()]
    ) as daemon:
        daemon.wait_for_text("not used")
        wait_until((folder / "run" / "draw.sock").is_socket, "its own socket is there")
    listener.close()
