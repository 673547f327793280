"""Machines as the kernel lists their processes."""

from dataclasses import replace
from pathlib import Path

import pytest

from drawwell.errors import GuestUnavailable
from drawwell.guests.model import Attachment, Guest, GuestKind
from drawwell.guests.qemu import Qemu

WEB = Guest(GuestKind.QEMU, "web1", Attachment.VIRTIO)


def process(proc: Path, number: int, *command: str) -> None:
    """Create a process as the kernel shows it."""
    (proc / str(number)).mkdir()
    (proc / str(number) / "cmdline").write_text("\0".join(command) + "\0")


def test_a_machine_is_known_by_its_process(tmp_path: Path) -> None:
    """A machine is found by -name; for an unknown name, similar ones appear."""
    process(tmp_path, 5, "qemu-system-x86_64", "-name", "guest=web1,debug-threads=on")
    process(tmp_path, 6, "bash", "-name", "wbe1")
    Qemu(proc=str(tmp_path)).require(WEB)
    with pytest.raises(GuestUnavailable, match="no QEMU with the name wbe1 is running") as refused:
        Qemu(proc=str(tmp_path)).require(replace(WEB, name="wbe1"))
    assert refused.value.hint == "Did you mean web1? If the guest does not exist yet, add --new."


def test_a_machine_behind_a_socket_has_any_name(tmp_path: Path) -> None:
    """If a QMP socket is given, any name is accepted until apply."""
    Qemu("/run/qmp", str(tmp_path)).require(WEB)
