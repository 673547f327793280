"""The doctor's verdict, and the cause of a source that is off."""

import os
from pathlib import Path

import pytest

from drawwell.broker.supply import no_source_hint
from drawwell.cli.doctor import _verdict, source_off
from drawwell.cli.doctor.finding import DoctorFinding
from drawwell.cli.doctor.source_off import cause, try_to_open

GOOD = DoctorFinding("good", "broker", "ready, 1 of 1 sources healthy")
IDLE = DoctorFinding(
    "note", "broker", "no broker is running here", "Start the broker with 'drawwell run'.", "drawwell run"
)
BAD = DoctorFinding("problem", "source x", "off", "Restart its unit.", "systemctl restart drawwell-named@x")
GONE = DoctorFinding("problem", "source x", "off", "Plug it in. Then see 'systemctl status'.")
HWRNG = DoctorFinding("good", "hwrng", "tpm", "To use it, run 'drawwell init hwrng'.", "drawwell init hwrng")
STICK = DoctorFinding(
    "note", "Infinite Noise", "", "To use it, run 'drawwell init host'.", "drawwell init host"
)


@pytest.mark.parametrize(
    ("findings", "verdict", "following"),
    [
        ([GOOD], "draws are possible", "drawwell draw 32 --hex"),
        ([IDLE], "draws are not possible", "drawwell run"),
        ([HWRNG, STICK, IDLE], "draws are not possible", "drawwell init host"),
        ([HWRNG, IDLE], "draws are not possible", "drawwell init hwrng"),
        ([GOOD, BAD, BAD], "2 problems", "systemctl restart drawwell-named@x"),
        ([GONE], "1 problem", "drawwell doctor"),
        ([], "draws are not possible", "drawwell demo"),
    ],
)
def test_the_verdict_ends_in_one_command(findings: list, verdict: str, following: str) -> None:
    """The last lines are a sentence and one command to type."""
    problems = sum(each.level == "problem" for each in findings)
    sentence, command = _verdict(findings, problems)
    assert verdict in sentence
    assert command == following


def source(path: str) -> dict:
    return {"identity": {"name": "x", "kind": "chardev", "path": path}, "last_error": "its process ended"}


def test_the_node_is_opened_and_not_only_looked_at(tmp_path: Path) -> None:
    """Doctor opens a node to find out that it cannot be opened."""
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert "symbolic links" in try_to_open(str(loop))
    assert try_to_open("/dev/null") == ""


def test_a_missing_node_is_named() -> None:
    """The reported cause is the missing node."""
    why, hint, _ = cause(source("/dev/no-such-node"))
    assert "/dev/no-such-node does not exist" in why
    assert hint


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to act as the sources' user")
def test_a_permission_that_the_sources_user_lacks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As root, doctor opens the node with the rights of drawwell-source."""
    import pwd

    other = pwd.getpwuid(65534)
    monkeypatch.setattr(pwd, "getpwnam", lambda _name: other)
    monkeypatch.setattr(source_off, "_DEV", "/proc")  # in a chroot all else may be one file system
    node = tmp_path / "noise"
    os.mknod(node, 0o020600, os.makedev(1, 9))
    why, hint, _ = cause(source(str(node)))
    assert "permission denied" in why
    assert "chgrp" in hint


class Paused:
    """A source with a state chosen by a test."""

    name = "stick"

    def __init__(self, *, paused: bool) -> None:
        self.paused = paused

    def report(self) -> "Paused":
        return self


@pytest.mark.parametrize(("paused", "expected"), [(True, "drawwell onerng resume stick"), (False, "doctor")])
def test_a_refusal_names_a_paused_source(paused: bool, expected: str) -> None:
    """A draw refused because of a paused source has the command to resume it."""
    assert expected in no_source_hint([Paused(paused=paused)])
