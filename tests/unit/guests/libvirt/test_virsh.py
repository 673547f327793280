"""virsh: no secrets in its arguments, and strictly parsed answers."""

import json
from pathlib import Path

import pytest

from drawwell.errors import DrawwellError, GuestUnavailable, PermissionRefused
from drawwell.guests.libvirt.connection import ask_agent
from drawwell.guests.libvirt.virsh import Virsh, recognised

VIRSH = """#!/bin/sh
echo "$@" >>{0}/arguments
cat >>{0}/stdin
cat {0}/answer
"""


@pytest.fixture
def virsh(tmp_path: Path) -> Virsh:
    """A virsh that records its input, and answers from a file."""
    program = tmp_path / "virsh"
    program.write_text(VIRSH.format(tmp_path))
    program.chmod(0o755)
    (tmp_path / "answer").write_text("virsh # echo\n")
    return Virsh("test:///x", str(program))


def test_the_agent_s_orders_are_on_no_command_line(virsh: Virsh, tmp_path: Path) -> None:
    """virsh reads them from stdin, in quotes that the content cannot close."""
    (tmp_path / "answer").write_text('virsh # \n{"return":{"pid":5}}\n\n')
    assert ask_agent(virsh, "u", "guest-exec", {"arg": ["it's; \n"]}, 5.0) == {"pid": 5}
    assert (tmp_path / "arguments").read_text() == "-q -c test:///x\n"
    said = (tmp_path / "stdin").read_text()
    assert (said.count("'"), said.count("\n")) == (2, 1)
    assert json.loads(said.split("'")[1])["arguments"] == {"arg": ["it's; \n"]}


@pytest.mark.parametrize(
    "answer", ["", "{\n", '{"return"', '{"error":{"desc":"no"}}', "{}\n{}", '{"error":7}', "{}"]
)
def test_malformed_answers_of_the_agent_are_refused(virsh: Virsh, tmp_path: Path, answer: str) -> None:
    """No, malformed, refused or double answers raise GuestUnavailable."""
    (tmp_path / "answer").write_text(answer)
    with pytest.raises(GuestUnavailable):
        ask_agent(virsh, "u", "guest-ping", {}, 5.0)


def test_a_malformed_list_of_domains_is_refused(virsh: Virsh) -> None:
    """A line that is not a UUID and a name is refused."""
    with pytest.raises(GuestUnavailable, match="list of domains"):
        virsh.domains()


NO_LIBVIRT = (
    "error: failed to connect to the hypervisor\nerror: Failed to connect socket to '/x/libvirt-sock'"
)


@pytest.mark.parametrize(
    ("said", "kind", "hint"),
    [
        (f"{NO_LIBVIRT}: No such file or directory", GuestUnavailable, "systemctl start"),
        (f"{NO_LIBVIRT}: Permission denied", PermissionRefused, "group libvirt"),
        ("error: authentication unavailable: no polkit agent available", PermissionRefused, "root"),
        ("error: Failed to add chardev 'charrng0': Failed to connect to '/r/egd.sock': Permission denied",
         GuestUnavailable, "AppArmor"),
        ("error: Failed to connect to '/r/egd.sock': Connection refused", GuestUnavailable, "broker"),
        ("error: Requested operation is not valid: USB device 001:004 is in use by driver QEMU, domain a",
         GuestUnavailable, "Another domain has the stick"),
        ("error: internal error: No more available PCI slots", GuestUnavailable, "pcie-root-port"),
        ("error: Guest agent is not responding: it is not connected", GuestUnavailable, "qemu-guest-agent"),
        ("", GuestUnavailable, "journal"),
    ],
)  # fmt: skip
def test_a_refusal_has_its_name_and_a_hint(said: str, kind: type[DrawwellError], hint: str) -> None:
    """A libvirt message becomes a named error with a hint."""
    error = recognised(said, "qemu:///system")
    assert (type(error), hint in (error.hint or "")) == (kind, True), error.hint


def test_a_refusal_is_one_printable_line() -> None:
    """Text quoted by libvirt cannot contain terminal escapes."""
    assert str(recognised("error: \x1b[2J\nerror: x\a" + "y" * 999, "u")).isprintable()
