"""``drawwell draw --wait`` and a broker that cannot be reached yet."""

import os
import pty
import subprocess
from pathlib import Path

import pytest

from drawwell.testing.waiting import DEADLINE_S
from support.daemon import PROGRAM, Daemon, StickThread, command, environment, healthy_broker
from support.station import Site


def screen_until(master: int, text: str) -> str:
    """Return what a program shows until `text` appears or the program ends."""
    shown = ""
    while text not in shown:
        try:
            shown += os.read(master, 4096).decode()
        except OSError:  # EIO: the other end is closed
            break
    return shown


@pytest.mark.parametrize("joined", [False, True])
def test_a_draw_waits_for_the_broker_to_start(folder: Path, joined: bool) -> None:
    """With --wait a draw shows its progress and succeeds when a broker starts."""
    (folder / "broker").mkdir()
    site, config = Site(folder / "broker"), folder / "machine.toml"
    config.write_text(f'[broker]\nstate_dir = "{folder}/state"\nrun_dir = "{folder}/run"\n')
    with StickThread(site.folder / "stick", rate=200_000.0):
        if joined:
            with healthy_broker(site.path):
                token = command("consumer", "invite", "web01", config=site.path).stdout
                assert command("join", "-", config=config, text=token).returncode == 0
        who = config if joined else site.path
        assert command("draw", "32", "--hex", config=who).returncode == 69
        master, terminal = pty.openpty()
        line = [*PROGRAM, "draw", "32", "--hex", "--wait", f"{DEADLINE_S:g}s"]
        env = environment(who, {"TERM": "xterm"})
        with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=terminal, env=env) as draw:
            os.close(terminal)
            shown = screen_until(master, "waiting up to")
            assert "0B of 32B drawn, waiting up to" in shown
            with Daemon("run", config=site.path, log=folder / "log"):
                drawn, _ = draw.communicate()
        left = screen_until(master, "hint")
        os.close(master)
    assert (draw.returncode, len(drawn)) == (0, 65), left
