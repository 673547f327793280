"""A QEMU of which nothing runs but its monitor, and sockets on which something else answers."""

import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drawwell.errors import GuestUnavailable, PermissionRefused, RemoteProtocolError
from drawwell.guests.model import Attachment, Guest, GuestKind
from drawwell.guests.qemu import Qemu, qmp
from drawwell.guests.qemu.agent import Agent
from drawwell.guests.qemu.generators import generators_of
from drawwell.guests.qemu.qmp import Monitor, QmpError
from drawwell.testing.waiting import wait_until

NAME = f"qmp{os.getpid()}"
"""Machines are found by their names, and other tests may run beside."""
needs_qemu = pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="QEMU is not installed")


def guest(folder: Path, via: Attachment = Attachment.VIRTIO) -> Guest:
    return Guest(GuestKind.QEMU, NAME, via, run_dir=str(folder))


@contextmanager
def machine(folder: Path, *words: str) -> Iterator[str]:
    """A machine that never starts its processor; the path of its QMP socket."""
    path = folder / "qmp"
    command = [
        "qemu-system-x86_64", "-S", "-accel", "tcg", "-m", "16", "-nodefaults", "-display", "none",
        "-qmp", f"unix:{path},server=on,wait=off", *words,
    ]  # fmt: skip
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            wait_until(path.exists, "QEMU listens")
            yield str(path)
        finally:
            process.kill()
    path.unlink(missing_ok=True)


@contextmanager
def door(folder: Path) -> Iterator[None]:
    """Somebody who listens where the guest's socket is."""
    path = folder / "guests" / NAME / "egd.sock"
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        yield


@needs_qemu
def test_a_machine_is_found_by_its_name_and_plugged(folder: Path) -> None:
    """Without --connect its -name is enough; the second time nothing changes; what is plugged stands in QEMU."""
    with door(folder), machine(folder, "-name", NAME) as path:
        assert [change.where for change in Qemu().apply(guest(folder))] == [path]
        assert Qemu().apply(guest(folder)) == []
        with Monitor(path) as monitor:
            ((where, generator),) = generators_of(monitor)
        assert where == f"/machine/peripheral/drawwell-{NAME}"
        assert (generator.backend, generator.place) == ("rng-egd", guest(folder).socket)
        (facts,) = [each for each in Qemu().audit() if each.name == NAME]
        assert (facts.virtio_rng, facts.generation_id) == (True, False)


@needs_qemu
def test_a_busy_monitor_is_passed_over(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """QEMU serves one client on each socket: where the first is taken, the second is asked."""
    monkeypatch.setattr(qmp, "ANSWER_S", 1.0)
    second = ("-qmp", f"unix:{folder}/second,server=on,wait=off")
    with door(folder), machine(folder, "-name", NAME, *second) as path, Monitor(path):
        (change,) = Qemu().apply(guest(folder))
        assert change.where == f"{folder}/second"


@needs_qemu
def test_q35_has_it_in_a_free_port(folder: Path) -> None:
    """The root bus of q35 takes nothing: an empty root port is found."""
    port = ("-M", "q35", "-device", "pcie-root-port,id=free,chassis=1")
    with door(folder), machine(folder, *port) as path:
        assert len(Qemu(path).apply(guest(folder))) == 1


@needs_qemu
def test_a_refused_device_leaves_nothing_behind(folder: Path) -> None:
    """Where there is no port, QEMU's words are told, and socket and backend are taken back."""
    with door(folder), machine(folder, "-M", "q35") as path:
        with pytest.raises(QmpError, match="hotplug"):
            Qemu(path).apply(guest(folder))
        with Monitor(path) as monitor:
            labels = {each["label"] for each in monitor.execute("query-chardev")}
            objects = {each["name"] for each in monitor.execute("qom-list", path="/objects")}
        assert f"drawwell-{NAME}" not in labels | objects


@needs_qemu
def test_two_machines_of_one_name_are_not_guessed(folder: Path) -> None:
    """Which is meant is asked, with the processes; a machine without QMP is told what it lacks."""
    bare = ["qemu-system-x86_64", "-S", "-accel", "tcg", "-m", "16", "-nodefaults", "-display", "none"]
    with subprocess.Popen([*bare, "-name", NAME], stdin=subprocess.DEVNULL) as alone:
        try:
            wait_until(lambda: any(each.name == NAME for each in Qemu().audit()), "it is seen")
            with pytest.raises(GuestUnavailable, match="no QMP socket"):
                Qemu().apply(guest(folder))
            with machine(folder, "-name", NAME), pytest.raises(GuestUnavailable, match="2 machines"):
                Qemu().apply(guest(folder))
        finally:
            alone.kill()


def test_a_machine_that_does_not_run_is_left(folder: Path) -> None:
    """There is nothing to change, to undo or to go into."""
    other = Guest(GuestKind.QEMU, "not-here", Attachment.VIRTIO, run_dir=str(folder))
    assert (Qemu().apply(other), Qemu().remove(other), Qemu().inside(other)) == ([], [], None)


def test_nobody_listens(folder: Path) -> None:
    """A socket that is not there is said to be unreachable."""
    with pytest.raises(GuestUnavailable, match="cannot reach"):
        Monitor(str(folder / "none"))


@contextmanager
def answering(folder: Path, say: Callable[[socket.socket], object]) -> Iterator[str]:
    """A socket on which somebody else answers."""
    path = folder / "fake"
    path.unlink(missing_ok=True)

    def live() -> None:
        peer, _ = listener.accept()
        with peer:
            say(peer)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=live)
        thread.start()
        yield str(path)
        thread.join()


@pytest.mark.parametrize(
    "words",
    [
        b"220 mail.example.org ESMTP\n",
        b"[]\n",
        b"{}\n",
        b'{"QMP": 7}\n',
        b"[" * 100_000 + b"\n",
        b"\xff\xfe\n",
    ],
)
def test_what_is_no_qmp_is_refused(folder: Path, words: bytes) -> None:
    """Another protocol, a list, an empty greeting, deep nesting: the named error."""
    with answering(folder, lambda peer: peer.sendall(words)) as path, pytest.raises(RemoteProtocolError):
        Monitor(path)


def test_a_line_without_end_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes on and on is refused at the bound."""
    monkeypatch.setattr(qmp, "MAX_LINE_BYTES", 100_000)

    def flood(peer: socket.socket) -> None:
        try:
            while True:
                peer.sendall(b"{" * 65536)
        except OSError:
            return

    with answering(folder, flood) as path, pytest.raises(RemoteProtocolError, match="no end"):
        Monitor(path)


def test_silence_ends(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever says nothing is given up, with why."""
    monkeypatch.setattr(qmp, "ANSWER_S", 0.2)
    with (
        answering(folder, lambda peer: peer.recv(1)) as path,
        pytest.raises(GuestUnavailable, match="no answer"),
    ):
        Monitor(path)


@given(st.binary(max_size=200))
@settings(max_examples=50)
def test_any_greeting_is_read_or_refused(words: bytes) -> None:
    """No garbage raises anything but the named errors."""
    with (
        tempfile.TemporaryDirectory(prefix="dw-") as name,
        answering(Path(name), lambda peer: peer.sendall(words)) as path,
        pytest.raises((RemoteProtocolError, GuestUnavailable, PermissionRefused)),
    ):
        Monitor(path)


def test_who_only_chatters_is_given_up_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events without end in the place of an answer keep nobody longer than silence does."""
    monkeypatch.setattr(qmp, "ANSWER_S", 0.2)

    def chatter(peer: socket.socket) -> None:
        try:
            while True:
                peer.sendall(b'{"event": "x"}\n' * 100)
        except OSError:
            return

    def greet(peer: socket.socket) -> None:
        peer.sendall(b'{"QMP": {"version": {"qemu": {"major": 7, "minor": 2}}}}\n')
        chatter(peer)

    with answering(folder, greet) as path, pytest.raises(GuestUnavailable, match="no answer"):
        Monitor(path)
    with answering(folder, chatter) as path, pytest.raises(GuestUnavailable, match="no answer"):
        Agent.at_socket(path).ping(0.2)


def test_a_guest_that_floods_its_agent_s_socket_is_blamed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes from QEMU's socket of the agent was said in the guest: that is where to look."""
    monkeypatch.setattr(qmp, "MAX_LINE_BYTES", 1 << 16)

    def flood(peer: socket.socket) -> None:
        with suppress(OSError):
            while True:
                peer.sendall(b"x" * 65536)

    with (
        answering(folder, flood) as path,
        pytest.raises(GuestUnavailable, match="agent answers nonsense") as told,
    ):
        Agent.at_socket(path).ping(30.0)
    assert "in the guest" in str(told.value.hint)
