"""The configuration that a command uses when none is named."""

from pathlib import Path

import pytest

from drawwell.testing.waiting import wait_until
from support.daemon import PROGRAM, Daemon, StickThread, command

pytestmark = pytest.mark.root

OWN_RUN = (
    "unshare",
    "--mount",
    "--propagation",
    "private",
    "sh",
    "-ec",
    'mount -t tmpfs x /run; exec "$@"',
    "sh",
)
"""Another /run with the sockets of the machine's own broker."""
STICK = """\
[broker]
state_dir = "{0}/state"
[[source]]
name = "stick"
driver = "onerng"
path = "{0}/onerng"
"""


def test_without_a_named_file_the_running_broker_is_asked(tmp_path: Path) -> None:
    """The running broker is queried, even if another file started it."""
    path = tmp_path / "elsewhere.toml"
    path.write_text(STICK.format(tmp_path))
    with (
        StickThread(tmp_path / "onerng"),
        Daemon("run", config=path, log=tmp_path / "log", program=(*OWN_RUN, *PROGRAM)) as broker,
    ):
        there = ("nsenter", f"--target={broker.pid}", "--mount", *PROGRAM)
        ready = ("status", "--require", "ready")
        wait_until(lambda: command(*ready, program=there).returncode == 0 or not broker.running, "it serves")
        info = command("onerng", "info", program=there)
        assert info.returncode == 0, info.stderr
        assert "no broker is running: using" not in info.stderr
        found = command("doctor", program=there).stdout
        assert f"{path} (of the running broker)" in found
        assert "\n+ good  - note  ! problem\n" in found


def test_where_no_broker_answers_the_file_is_named(tmp_path: Path) -> None:
    """One line names the file that is read, unless the user named it."""
    path = tmp_path / "drawwell.toml"
    path.write_text(STICK.format(tmp_path))
    device = str(tmp_path / "onerng")
    with StickThread(tmp_path / "onerng"):
        verified = command("source", "verify", device, program=(*OWN_RUN, *PROGRAM))
        named = command("source", "verify", device, config=path, program=(*OWN_RUN, *PROGRAM))
    assert verified.returncode == named.returncode == 0, verified.stderr
    assert "drawwell: no broker is running: using " in verified.stderr
    assert "no broker is running: using" not in named.stderr
