"""QEMU with only its monitor, and simulated QMP sockets."""

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
from support.listening import listens

NAME = f"qmp{os.getpid()}"
"""A machine name that no other test uses."""
needs_qemu = pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="QEMU is not installed")


def guest(folder: Path, via: Attachment = Attachment.VIRTIO) -> Guest:
    return Guest(GuestKind.QEMU, NAME, via, run_dir=str(folder))


@contextmanager
def machine(folder: Path, *arguments: str) -> Iterator[str]:
    """Run a machine with a stopped CPU; return its QMP socket's path."""
    path = folder / "qmp"
    command = [
        "qemu-system-x86_64", "-S", "-accel", "tcg", "-m", "16", "-nodefaults", "-display", "none",
        "-qmp", f"unix:{path},server=on,wait=off", *arguments,
    ]  # fmt: skip
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: listens(path), "QEMU listens")
            yield str(path)
        finally:
            process.kill()
    path.unlink(missing_ok=True)


@contextmanager
def door(folder: Path, name: str = "egd.sock") -> Iterator[None]:
    """Listen at the guest's socket."""
    path = folder / "guests" / NAME / name
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        yield


@needs_qemu
def test_a_machine_is_found_by_its_name_and_plugged(folder: Path) -> None:
    """QEMU is found by its -name; a second apply changes nothing."""
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
def test_a_virtual_stick_is_plugged_in_once(folder: Path) -> None:
    """A second apply changes nothing, although the stick has no limit."""
    stick = guest(folder, Attachment.USB_VIRTUAL)
    with door(folder, "usb.sock"), machine(folder, "-device", "qemu-xhci") as path:
        assert len(Qemu(path).apply(stick)) == 1
        assert Qemu(path).apply(stick) == []


@needs_qemu
def test_a_busy_monitor_is_passed_over(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If one QMP socket is in use, the next is tried."""
    monkeypatch.setattr(qmp, "ANSWER_S", 1.0)
    second = ("-qmp", f"unix:{folder}/second,server=on,wait=off")
    with door(folder), machine(folder, "-name", NAME, *second) as path, Monitor(path):
        (change,) = Qemu().apply(guest(folder))
        assert change.where == f"{folder}/second"


@needs_qemu
def test_a_busy_monitor_is_an_error_with_a_hint(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another client has the only QMP socket: no endless wait, and a remedy."""
    monkeypatch.setattr(qmp, "ANSWER_S", 0.2)  # short: it never comes
    with (
        door(folder),
        machine(folder, "-name", NAME) as path,
        socket.socket(socket.AF_UNIX) as other,
    ):
        other.connect(path)
        for work in (Qemu().apply, Qemu().remove):
            with pytest.raises(GuestUnavailable, match=f"no answer on {path}") as refused:
                work(guest(folder))
            assert "one client at a time" in str(refused.value.hint)
        (facts,) = [each for each in Qemu().audit() if each.name == NAME]
        assert facts.running, "audit reads the command line instead"


@needs_qemu
def test_q35_has_it_in_a_free_port(folder: Path) -> None:
    """q35's root bus accepts no device, so an empty root port is used."""
    port = ("-M", "q35", "-device", "pcie-root-port,id=free,chassis=1")
    with door(folder), machine(folder, *port) as path:
        assert len(Qemu(path).apply(guest(folder))) == 1


@needs_qemu
def test_a_refused_device_leaves_nothing_behind(folder: Path) -> None:
    """Without a free port, QEMU's error is shown and all changes are undone."""
    with door(folder), machine(folder, "-M", "q35") as path:
        with pytest.raises(QmpError, match="hotplug"):
            Qemu(path).apply(guest(folder))
        with Monitor(path) as monitor:
            labels = {each["label"] for each in monitor.execute("query-chardev")}
            objects = {each["name"] for each in monitor.execute("qom-list", path="/objects")}
        assert f"drawwell-{NAME}" not in labels | objects


@needs_qemu
def test_two_machines_of_one_name_are_not_guessed(folder: Path) -> None:
    """For an ambiguous name, processes are listed, or the hint names QMP."""
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
    """A stopped machine cannot be changed, undone or entered."""
    other = Guest(GuestKind.QEMU, "not-here", Attachment.VIRTIO, run_dir=str(folder))
    assert (Qemu().apply(other), Qemu().remove(other), Qemu().inside(other)) == ([], [], None)


def test_there_is_no_listener(folder: Path) -> None:
    """A missing socket is reported as unreachable."""
    with pytest.raises(GuestUnavailable, match="cannot reach"):
        Monitor(str(folder / "none"))


@contextmanager
def answering(folder: Path, say: Callable[[socket.socket], object]) -> Iterator[str]:
    """Create a QMP socket on which another program answers."""
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
    "answer",
    [
        b"220 mail.example.org ESMTP\n",
        b"[]\n",
        b"{}\n",
        b'{"QMP": 7}\n',
        b"[" * 100_000 + b"\n",
        b"\xff\xfe\n",
    ],
)
def test_what_is_no_qmp_is_refused(folder: Path, answer: bytes) -> None:
    """Other protocols and malformed greetings give the named error."""
    with answering(folder, lambda peer: peer.sendall(answer)) as path, pytest.raises(RemoteProtocolError):
        Monitor(path)


def test_a_line_without_end_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endless line is refused at the limit."""
    monkeypatch.setattr(qmp, "MAX_LINE_BYTES", 100_000)

    def flood(peer: socket.socket) -> None:
        try:
            while True:
                peer.sendall(b"{" * 65536)
        except OSError:
            return

    with answering(folder, flood) as path, pytest.raises(RemoteProtocolError, match="too long"):
        Monitor(path)


def test_silence_ends(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent peer is given up, with the reason."""
    monkeypatch.setattr(qmp, "ANSWER_S", 0.2)
    with (
        answering(folder, lambda peer: peer.recv(1)) as path,
        pytest.raises(GuestUnavailable, match="no answer"),
    ):
        Monitor(path)


@given(st.binary(max_size=200))
@settings(max_examples=50)
def test_any_greeting_is_read_or_refused(answer: bytes) -> None:
    """Garbage raises only the named errors."""
    with (
        tempfile.TemporaryDirectory(prefix="dw-") as name,
        answering(Path(name), lambda peer: peer.sendall(answer)) as path,
        pytest.raises((RemoteProtocolError, GuestUnavailable, PermissionRefused)),
    ):
        Monitor(path)


def test_who_only_chatters_is_given_up_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Endless events instead of an answer end at the same deadline."""
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
    """The guest controls the agent's answers, so the hint blames the guest."""
    monkeypatch.setattr(qmp, "MAX_LINE_BYTES", 1 << 16)

    def flood(peer: socket.socket) -> None:
        with suppress(OSError):
            while True:
                peer.sendall(b"x" * 65536)

    with (
        answering(folder, flood) as path,
        pytest.raises(GuestUnavailable, match="agent sent an invalid answer") as refused,
    ):
        Agent.at_socket(path).ping(30.0)
    assert "in the guest" in str(refused.value.hint)
