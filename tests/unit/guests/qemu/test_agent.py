"""The guest agent answers for the guest: what it says is strictly read, and secrets stay off command lines."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drawwell.errors import DrawwellError, GuestUnavailable, PermissionRefused, UsageError
from drawwell.guests.inside.reseed import reseed
from drawwell.guests.libvirt.connection import ask_agent
from drawwell.guests.libvirt.virsh import Virsh, recognised
from drawwell.guests.model import GuestCommandResult, GuestFinding, GuestVerdict, Inside
from drawwell.guests.qemu.agent import Agent

PLAIN = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=20) | st.binary(max_size=9).map(
    lambda data: base64.b64encode(data).decode()
)  # fmt: skip
ANSWERS = PLAIN | st.dictionaries(
    st.sampled_from(["pid", "exited", "exitcode", "signal", "out-data", "err-data", "out-truncated"]), PLAIN
)
FRESH = bytes(range(64))


def answering(*answers: Any) -> Agent:
    said = iter(answers)
    return Agent(lambda _command, _arguments, _within_s: next(said))


@given(started=ANSWERS, ended=ANSWERS)
def test_whatever_the_agent_says_parses_or_is_told(started: Any, ended: Any) -> None:
    """Any answers make an outcome with a status and bytes, or GuestUnavailable."""
    try:
        outcome = answering(started, ended).run(["true"], timeout_s=0)
    except GuestUnavailable:
        return
    assert (type(outcome.status), type(outcome.output), type(outcome.errors)) == (int, bytes, str)


def test_a_program_s_end_is_read() -> None:
    """Status, signal as a shell has it, and both outputs."""
    text = base64.b64encode(b"\0hello").decode()
    ended = answering(
        {"pid": 3}, {"exited": False}, {"exited": True, "exitcode": 7, "out-data": text, "err-data": text}
    )
    assert ended.run(["x"]) == GuestCommandResult(7, b"\0hello", "\0hello")
    assert answering({"pid": 3}, {"exited": True, "signal": 9}).run(["x"]).status == 137


def test_what_is_handed_in_is_no_word_of_the_program() -> None:
    """Standard input goes by a field of its own."""
    asked: list[Any] = []

    def ask(command: str, arguments: dict[str, Any], _within_s: float) -> Any:
        asked.append((command, arguments))
        return {"pid": 1} if command == "guest-exec" else {"exited": True, "exitcode": 0}

    Agent(ask).run(["sh", "-c", "cat"], stdin=FRESH)
    assert asked[0] == (
        "guest-exec",
        {
            "path": "sh",
            "arg": ["-c", "cat"],
            "capture-output": True,
            "input-data": base64.b64encode(FRESH).decode(),
        },
    )


VIRSH = """#!/bin/sh
echo "$@" >>{0}/words
cat >>{0}/said
cat {0}/answer
"""


@pytest.fixture
def virsh(tmp_path: Path) -> Virsh:
    """A virsh that notes what it is told, and answers what stands in a file."""
    program = tmp_path / "virsh"
    program.write_text(VIRSH.format(tmp_path))
    program.chmod(0o755)
    (tmp_path / "answer").write_text("virsh # echo\n")
    return Virsh("test:///x", str(program))


def test_the_agent_s_orders_are_on_no_command_line(virsh: Virsh, tmp_path: Path) -> None:
    """virsh reads them from its standard input, as one word in quotes that nothing in them ends."""
    (tmp_path / "answer").write_text('virsh # \n{"return":{"pid":5}}\n\n')
    assert ask_agent(virsh, "u", "guest-exec", {"arg": ["it's; \n"]}, 5.0) == {"pid": 5}
    assert (tmp_path / "words").read_text() == "-q -c test:///x\n"
    said = (tmp_path / "said").read_text()
    assert (said.count("'"), said.count("\n")) == (2, 1)
    assert json.loads(said.split("'")[1])["arguments"] == {"arg": ["it's; \n"]}


@pytest.mark.parametrize(
    "answer", ["", "{\n", '{"return"', '{"error":{"desc":"no"}}', "{}\n{}", '{"error":7}', "{}"]
)
def test_answers_of_the_agent_that_are_none_are_told(virsh: Virsh, tmp_path: Path, answer: str) -> None:
    """Nothing, nonsense, a refusal, or two answers at once: GuestUnavailable."""
    (tmp_path / "answer").write_text(answer)
    with pytest.raises(GuestUnavailable):
        ask_agent(virsh, "u", "guest-ping", {}, 5.0)


def test_a_list_of_domains_that_cannot_be_read_is_told(virsh: Virsh) -> None:
    """A line that is no UUID and name is no domain."""
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
         GuestUnavailable, "another domain"),
        ("error: internal error: No more available PCI slots", GuestUnavailable, "pcie-root-port"),
        ("error: Guest agent is not responding: it is not connected", GuestUnavailable, "qemu-guest-agent"),
        ("", GuestUnavailable, "journal"),
    ],
)  # fmt: skip
def test_a_refusal_has_its_name_and_a_hint(said: str, kind: type[DrawwellError], hint: str) -> None:
    """What libvirt says against it becomes the error that says what to do."""
    error = recognised(said, "qemu:///system")
    assert (type(error), hint in (error.hint or "")) == (kind, True), error.hint


def test_a_refusal_is_one_printable_line() -> None:
    """What libvirt quotes cannot move a terminal's cursor."""
    assert str(recognised("error: \x1b[2J\nerror: x\a" + "y" * 999, "u")).isprintable()


class _Guest(Inside):
    def __init__(self, outcome: GuestCommandResult) -> None:
        self.outcome = outcome
        self.given: list[Any] = []

    def run(self, argv: list[str], *, stdin: bytes = b"", timeout_s: float = 30.0) -> GuestCommandResult:
        self.given.append((argv, stdin, timeout_s))
        return self.outcome


def reseeded(status: int, errors: str = "") -> list[GuestFinding]:
    return reseed(_Guest(GuestCommandResult(status, b"", errors)), FRESH)


def test_a_reseeding_is_told_as_it_went() -> None:
    """Taken and used; taken and not used; not taken; and nobody there to do it."""
    verdicts = {status: [each.verdict for each in reseeded(status)] for status in (0, 4, 3, 9, 127)}
    fails, holds = GuestVerdict.FAILS, GuestVerdict.HOLDS
    assert verdicts == {0: [holds, holds], 4: [holds, fails], 3: [fails], 9: [fails], 127: [fails]}


def test_fresh_bytes_are_in_no_finding_and_on_no_command_line() -> None:
    """They go by standard input alone."""
    inside = _Guest(GuestCommandResult(0, b""))
    findings = reseed(inside, FRESH)
    ((argv, stdin, _),) = inside.given
    assert stdin == FRESH
    assert not any(FRESH.hex() in text or "\\x00\\x01" in text for text in (*argv, repr(findings)))


@pytest.mark.parametrize("size", [0, 31, 513])
def test_too_few_bytes_or_too_many_are_refused(size: int) -> None:
    """Less than 32 bytes do not tell two guests apart."""
    with pytest.raises(UsageError):
        reseed(_Guest(GuestCommandResult(0, b"")), bytes(size))
