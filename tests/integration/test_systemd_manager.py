"""The service manager's sockets and notifications, for real."""

import array
import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from drawwell.service.systemd import Manager
from drawwell.testing.waiting import DEADLINE_S


@pytest.fixture
def manager_socket(folder: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(DEADLINE_S)
        sock.bind(str(folder / "notify"))
        yield sock


def received(sock: socket.socket) -> list[str]:
    return sock.recv(4096).decode().splitlines()


def test_without_a_manager_nothing_is_sent() -> None:
    """If the environment names no manager, every call returns False."""
    manager = Manager({})
    assert not manager.listens
    assert not manager.notify(READY="1")
    assert not manager.store("x", 0)
    assert not manager.forget("x")
    assert manager.inherited("draw") == []
    assert manager.watchdog_s is None


def test_fields_are_sent_one_a_line(manager_socket: socket.socket) -> None:
    """Each field is one line; a line break in a value adds none."""
    manager = Manager({"NOTIFY_SOCKET": manager_socket.getsockname()})
    assert manager.notify(READY="1", STATUS="healthy\nSTOPPING=1")
    assert received(manager_socket) == ["READY=1", "STATUS=healthy STOPPING=1"]


def test_an_abstract_address_is_understood() -> None:
    """A name that starts with @ is in the abstract namespace."""
    name = f"drawwell-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(DEADLINE_S)
        sock.bind(f"\0{name}")
        assert Manager({"NOTIFY_SOCKET": f"@{name}"}).notify(WATCHDOG="1")
        assert received(sock) == ["WATCHDOG=1"]


def test_a_manager_that_has_gone_is_not_waited_for(folder: Path) -> None:
    """If the socket has no reader, the call returns False."""
    assert not Manager({"NOTIFY_SOCKET": str(folder / "gone")}).notify(READY="1")


def test_a_stored_descriptor_is_the_same_file(manager_socket: socket.socket) -> None:
    """The manager stores the same socket, under its name."""
    manager = Manager({"NOTIFY_SOCKET": manager_socket.getsockname()})
    here, there = socket.socketpair()
    with here, there:
        assert manager.store("guest-web", here.fileno())
        data, ancillary, _flags, _address = manager_socket.recvmsg(4096, socket.CMSG_SPACE(4))
        assert data.decode().splitlines() == ["FDSTORE=1", "FDNAME=guest-web"]
        descriptors = array.array("i")
        descriptors.frombytes(ancillary[0][2])
        with socket.socket(fileno=descriptors[0]) as copy:
            there.sendall(b"hello")
            assert copy.recv(5) == b"hello"
    assert manager.forget("guest-web")
    assert received(manager_socket) == ["FDSTOREREMOVE=1", "FDNAME=guest-web"]


@pytest.mark.parametrize("name", ["", "a:b", "ä", "a\nb", "x" * 256])
def test_what_is_no_name_is_not_sent(name: str) -> None:
    """A name that the manager would refuse or misread raises an error."""
    with pytest.raises(ValueError, match="descriptor name"):
        Manager({}).store(name, 0)


def test_the_watchdog_of_another_process_is_not_ours() -> None:
    """WATCHDOG_PID names the process for the watchdog."""
    assert Manager({"WATCHDOG_USEC": "30000000"}).watchdog_s == 30.0
    assert Manager({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}).watchdog_s == 0.5
    assert Manager({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}).watchdog_s is None
    assert Manager({"WATCHDOG_USEC": "soon"}).watchdog_s is None


CHILD = """
import os, sys
from drawwell.service.systemd import Manager
for index, fd in enumerate(map(int, sys.argv[2:])):
    os.dup2(fd, 3 + index)
os.environ["LISTEN_PID"] = sys.argv[1] or str(os.getpid())
manager = Manager(os.environ)
print(*sorted(manager.names))
draw = manager.inherited("draw")
print(*[sock.getsockname() for sock in draw], *[sock.get_inheritable() for sock in draw], sep=",")
print(len(manager.inherited("draw")), len(manager.inherited("pipe")), len(manager.inherited("no-such")))
print(*[name for name in os.environ if name.startswith("LISTEN_")])
"""


def child(folder: Path, *, pid: str, script: str = CHILD) -> list[str]:
    """Start a process with three descriptors: two sockets and a pipe."""
    first, second = (socket.socket(socket.AF_UNIX) for _ in range(2))
    with first, second, open(folder / "file", "w") as file:
        for sock, name in ((first, "a"), (second, "b")):
            sock.bind(str(folder / name))
            sock.listen()
        high = [
            fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in (first.fileno(), second.fileno(), file.fileno())
        ]
        done = subprocess.run(
            [sys.executable, "-c", script, pid, *map(str, high)],
            pass_fds=high,
            env={**os.environ, "LISTEN_FDS": "3", "LISTEN_FDNAMES": "draw:draw:pipe"},
            capture_output=True,
            text=True,
            check=True,
        )
        for fd in high:
            os.close(fd)
    return done.stdout.splitlines()


def test_sockets_are_handed_over_once_by_name(folder: Path) -> None:
    """Each socket is taken once, by name; a non-socket is closed."""
    names, draw, again, left = child(folder, pid="")
    assert names == "draw pipe"
    assert draw == f"{folder}/a,{folder}/b,False,False"
    assert again == "0 0 0"
    assert left == ""


def test_what_is_for_another_process_is_left_alone(folder: Path) -> None:
    """LISTEN_PID names the process for the descriptors."""
    names, draw, *_ = child(folder, pid="1")
    assert (names, draw) == ("", "")


def test_a_file_that_was_opened_for_us_is_had_as_it_is(folder: Path) -> None:
    """A descriptor that is not a socket is taken once, by number."""
    done = child(folder, pid="", script=OPENED)
    assert done == ["True False", "[]"]


OPENED = """
import os, sys
from drawwell.service.systemd import Manager
for index, fd in enumerate(map(int, sys.argv[2:])):
    os.dup2(fd, 3 + index)
os.environ["LISTEN_PID"] = str(os.getpid())
manager = Manager(os.environ)
[fd] = manager.opened("pipe")
print(fd == 5, os.get_inheritable(fd))
print(manager.opened("pipe"))
"""
