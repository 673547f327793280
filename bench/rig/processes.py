"""Programs on fixed cores: start, wait, measure through /proc, stop."""

import contextlib
import os
import re
import resource
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

START_WITHIN_S: Final = 30.0
_TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
_CORES: Final = sorted(os.sched_getaffinity(0))
SERVER_CORE: Final = _CORES[0]
CLIENT_CORE: Final = _CORES[-1]


@dataclass(frozen=True)
class Server:
    """A program that listens on 127.0.0.1."""

    pid: int
    port: int


def stay_on(core: int) -> None:
    """Pin this process to a core."""
    os.sched_setaffinity(0, {core})


def raise_file_limit() -> None:
    """Raise the file-descriptor limit: 1,000 consumers need 1,000 sockets."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def running(
    argv: Sequence[str], *, core: int = SERVER_CORE, **options: Any
) -> Iterator[subprocess.Popen[Any]]:
    """Run a program and its children on one core in a session; end them all."""
    options = {
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
        "stdin": subprocess.DEVNULL,
    } | options
    before = os.sched_getaffinity(0)
    stay_on(core)  # inherited
    process = subprocess.Popen(argv, start_new_session=True, **options)
    os.sched_setaffinity(0, before)
    try:
        yield process
    finally:
        for pid in tree(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 15)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def wait_for_port(process: subprocess.Popen[Any], port: int) -> None:
    """Wait until the kernel shows that `process` listens, without connecting."""
    deadline = time.monotonic() + START_WITHIN_S
    wanted = re.compile(rf":{port:04X} 0+:0000 0A ")
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"{process.args!r} ended with {process.returncode}")
        with (
            open("/proc/net/tcp", encoding="ascii") as table,
            open("/proc/net/tcp6", encoding="ascii") as six,
        ):
            if wanted.search(table.read() + six.read()):
                return
        time.sleep(0.005)
    raise SystemExit(f"{process.args!r} does not listen on port {port}")


def wait_for_path(process: subprocess.Popen[Any], path: Path) -> None:
    """Wait until `process` has created `path`."""
    deadline = time.monotonic() + START_WITHIN_S
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"{process.args!r} does not make {path}")
        time.sleep(0.005)


def tree(pid: int) -> list[int]:
    """Return the process and its living descendants."""
    found, ahead = [], [pid]
    while ahead:
        one = ahead.pop()
        found.append(one)
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{one}/task"):
                with open(f"/proc/{one}/task/{task}/children", encoding="ascii") as children:
                    ahead += map(int, children.read().split())
    return found


def cpu_s(pid: int) -> float:
    """Return CPU seconds of a process and its descendants, with reaped ones."""
    ticks = 0
    for one in tree(pid):
        with contextlib.suppress(OSError), open(f"/proc/{one}/stat", encoding="ascii") as stat:
            fields = stat.read().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))  # utime stime cutime cstime: proc(5)
    return ticks * _TICK_S


def memory_kib(pid: int) -> tuple[int, int]:
    """Return RSS and PSS of a process and its living descendants."""
    rss = pss = 0
    for one in tree(pid):
        with contextlib.suppress(OSError), open(f"/proc/{one}/smaps_rollup", encoding="ascii") as rollup:
            sizes = dict(re.findall(r"^(Rss|Pss): +(\d+) kB$", rollup.read(), re.MULTILINE))
            rss, pss = rss + int(sizes["Rss"]), pss + int(sizes["Pss"])
    return rss, pss
