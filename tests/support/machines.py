"""Machines on one kernel, each with its own network, name and /etc.

Each also has its own /root, /run and /var. They are overlays in a tmpfs, and disappear with
the machine. Needs root.
"""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from drawwell.testing.waiting import DEADLINE_S, wait_until

_SET_UP = """
set -eu
mount --make-rprivate /
mount -t tmpfs own "$1"
for each in etc var root; do
    mkdir "$1/$each" "$1/$each.work"
    mount -t overlay over -o "lowerdir=/$each,upperdir=$1/$each,workdir=$1/$each.work" "/$each"
done
mount -t tmpfs run /run
hostname "$2"
ip link set lo up
echo ready
exec sleep infinity
"""


class Machine:
    """A machine that runs during a `with` block, with its processes.

    Args:
        name: Its host name.
        folder: An empty directory for its tmpfs.
        env: The environment of its commands.
    """

    def __init__(self, name: str, folder: Path, env: Mapping[str, str]) -> None:
        self.name = name
        self._folder = folder
        self._env = dict(env)
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        """Boot the machine."""
        self._folder.mkdir()
        command = [
            "unshare",
            "--mount",
            "--net",
            "--uts",
            "sh",
            "-c",
            _SET_UP,
            "sh",
            str(self._folder),
            self.name,
        ]
        self._first = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._first.stdout
        with self._first.stdout as pipe:
            said = pipe.readline()
        if said != b"ready\n":
            self._first.kill()
            self._first.wait()
            raise OSError(f"no machine {self.name}: unshare, tmpfs or overlay is not to be had")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Switch the machine off."""
        for process in (*reversed(self._running), self._first):
            process.kill()
            process.wait()

    @property
    def pid(self) -> int:
        """Process ID of the first process, which has the machine's namespaces."""
        return self._first.pid

    def wire(self, other: "Machine", here: str, there: str) -> None:
        """Connect this machine to another, with an address and prefix at each end."""
        ends = f"to-{other.name}"[:15], f"to-{self.name}"[:15]
        link = ["ip", "link", "add", ends[0], "netns", str(self.pid), "type", "veth"]
        subprocess.run([*link, "peer", "name", ends[1], "netns", str(other.pid)], check=True)
        for machine, end, address in ((self, ends[0], here), (other, ends[1], there)):
            machine.sh(f"ip address add {address} dev {end} && ip link set {end} up")

    def sh(self, line: str, *, check: bool = True, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run a shell command.

        Raises:
            AssertionError: the command failed, and `check` is set.
        """
        done = subprocess.run(
            self._inside("sh", "-c", line),
            capture_output=True, text=True, check=False, timeout=DEADLINE_S, env=self._env, **more,
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"{self.name}: {line}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def start(self, *command: str, log: Path, until: str = "") -> "subprocess.Popen[bytes]":
        """Run a program until the machine stops; wait for `until` in its log."""
        with log.open("ab") as file:
            process = subprocess.Popen(
                self._inside(*command), stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=self._env
            )
        self._running.append(process)
        wait_until(
            lambda: until in log.read_text() or process.poll() is not None, f"{command[0]} prints {until!r}"
        )
        if until not in log.read_text():
            raise AssertionError(f"{command[0]} ended: {log.read_text()}")
        return process

    def write(self, path: str, text: str) -> None:
        """Write a file on the machine."""
        self.sh(f'mkdir -p "{os.path.dirname(path) or "."}" && cat > "{path}"', input=text)

    def read(self, path: str) -> str:
        """Read a file on the machine."""
        return self.sh(f'cat "{path}"').stdout

    def _inside(self, *command: str) -> list[str]:
        return ["nsenter", "-m", "-n", "-u", "-t", str(self.pid), f"--wdns={self._folder}", *command]
