"""The daemon under a service manager that the test plays: what it is told, and sockets that it hands over."""

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
"""Does what the service manager does between its fork and the program."""


class Told:
    """What the manager was told, in order."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)
        self.lines: list[str] = []

    def until(self, words: str) -> str:
        """Wait for a line that begins so; what came before it is not looked at again."""

        def look() -> str:
            try:
                while True:
                    self.lines += self._socket.recv(65536).decode().splitlines()
            except BlockingIOError:
                pass
            return next((line for line in self.lines if line.startswith(words)), "")

        found = wait_until(look, f"{words!r} is told")
        del self.lines[: self.lines.index(found) + 1]
        return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def told(folder: Path) -> Iterator[Told]:
    manager = Told(folder / "notify")
    yield manager
    manager.close()


def managed(folder: Path, site: Site) -> Daemon:
    env = {"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": "3000000"}
    return Daemon("broker", config=site.path, log=folder / "log", env=env)


def test_the_manager_is_told_how_it_does(folder: Path, told: Told) -> None:
    """Ready when the doors listen, healthy with its rate, alive, silent with its cause, and that it stops."""
    site = Site(folder)
    with StickThread(folder / "stick", seed=1, rate=0) as stick, managed(folder, site) as daemon:
        told.until("READY=1")
        assert (folder / "run" / "draw.sock").is_socket()
        assert told.until("STATUS=healthy").endswith("/s full entropy, 0 consumers")
        told.until("WATCHDOG=1")
        stick.do("set_fault", "silent")
        told.until("STATUS=STALLED ")
        stick.do("unplug")
        assert told.until("STATUS=no source").endswith("/stick is not there")
        assert daemon.stop() == 0
        told.until("STOPPING=1")


def test_a_broken_configuration_leaves_the_old_one_and_is_shown(folder: Path, told: Told) -> None:
    """At SIGHUP the fault stands in the manager's status line, in the log and in `status`, until it is mended."""
    site = Site(folder)
    with managed(folder, site) as daemon:
        told.until("READY=1")
        good = site.path.read_text()
        site.path.write_text(good + "[brokre]\n")
        daemon.send(signal.SIGHUP)
        told.until("RELOADING=1")
        told.until("READY=1")
        told.until("STATUS=no source")
        notes = json.loads(command("status", "--json", config=None, env=control(folder)).stdout)["notes"]
        assert any("brokre" in note for note in notes)
        assert "brokre" in daemon.words
        site.path.write_text(good)
        daemon.send(signal.SIGHUP)
        told.until("RELOADING=1")
        told.until("READY=1")
        status = json.loads(command("status", "--json", config=site.path).stdout)
        assert not any("brokre" in note for note in status["notes"])
        assert daemon.stop() == 0


def control(folder: Path) -> dict[str, str]:
    """An environment that finds the broker without its configuration, which is broken."""
    good = folder / "elsewhere.toml"
    good.write_text(f'[broker]\nstate_dir = "{folder}/state"\nrun_dir = "{folder}/run"\n')
    return {"DRAWWELL_CONFIG": str(good)}


def test_sockets_that_are_handed_over_outlive_it(folder: Path) -> None:
    """It serves the manager's sockets, and a client that comes between two lives is served by the next."""
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
            daemon.until_it_says("healthy")
            assert command("draw", "8", "--hex", config=site.path).returncode == 0
            assert daemon.stop() == 0
        assert (folder / "run" / "draw.sock").is_socket()
        with socket.socket(socket.AF_UNIX) as early:
            early.settimeout(DEADLINE_S)
            early.connect(str(folder / "run" / "draw.sock"))
            early.sendall(b"GET")
            with life():
                assert early.recv(1)  # it says goodbye to what is no protocol of ours
    listener.close()


def test_a_socket_that_is_elsewhere_is_not_used(folder: Path) -> None:
    """Where the configuration names another path than the manager's socket has, the configuration counts."""
    site = Site(folder)
    (folder / "other").mkdir()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "other" / "draw.sock"))
    listener.listen()
    program = [sys.executable, "-c", ACTIVATE, "unix", str(listener.fileno()), *PROGRAM]
    with Daemon(
        "broker", config=site.path, log=folder / "log", program=program, pass_fds=[listener.fileno()]
    ) as daemon:
        daemon.until_it_says("not used")
        wait_until((folder / "run" / "draw.sock").is_socket, "its own socket is there")
    listener.close()
