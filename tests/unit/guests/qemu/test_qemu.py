"""Machines as the kernel lists their processes."""

from dataclasses import replace
from pathlib import Path

import pytest

from drawwell.errors import GuestUnavailable
from drawwell.guests.model import Attachment, Guest, GuestKind
from drawwell.guests.qemu import Qemu

WEB = Guest(GuestKind.QEMU, "web1", Attachment.VIRTIO)


def process(proc: Path, number: int, *command: str) -> None:
    """A process as the kernel shows it."""
    (proc / str(number)).mkdir()
    (proc / str(number) / "cmdline").write_text("\0".join(command) + "\0")


def test_a_machine_is_known_by_its_process(tmp_path: Path) -> None:
    """By its -name; for one that no QEMU has, the hint names what is like it."""
    process(tmp_path, 5, "qemu-system-x86_64", "-name", "guest=web1,debug-threads=on")
    process(tmp_path, 6, "bash", "-name", "wbe1")
    Qemu(proc=str(tmp_path)).require(WEB)
    with pytest.raises(GuestUnavailable, match="no QEMU called wbe1 runs here") as refused:
        Qemu(proc=str(tmp_path)).require(replace(WEB, name="wbe1"))
    assert refused.value.hint == "There is web1. Is it made or started later? Add --new."


def test_a_machine_behind_a_socket_has_any_name(tmp_path: Path) -> None:
    """It was named by its QMP socket: apply asks there."""
    Qemu("/run/qmp", str(tmp_path)).require(WEB)
