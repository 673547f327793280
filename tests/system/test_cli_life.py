"""A broker's operation by commands: messages and exit codes."""

import json
import shutil
import socket
from pathlib import Path

import pytest

from support.daemon import Daemon, command


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return the configuration of a broker with an unplugged simulated stick."""
    path = tmp_path / "drawwell.toml"
    path.write_text(
        f'[broker]\nname = "well"\nstate_dir = "{tmp_path}/state"\nrun_dir = "{tmp_path}/run"\n'
        f'[[source]]\nname = "stick"\ndriver = "onerng"\npath = "{tmp_path}/onerng"\n'
    )
    return path


@pytest.mark.slow
def test_an_unplugged_stick_is_named_everywhere(tmp_path: Path, config: Path) -> None:
    """Plugged in, it serves with receipts; unplugged, commands exit with 69."""
    simulate = ("source", "simulate", "--link", str(tmp_path / "onerng"), "--rate", "0")
    bytes_file, receipt = str(tmp_path / "bytes"), str(tmp_path / "receipt")
    with Daemon("run", config=config, log=tmp_path / "log") as broker:
        broker.wait_for_text("does not exist; retrying")
        with Daemon(*simulate, config=config, log=tmp_path / "stick"):
            broker.wait_for_text("stick (simulated): healthy")
            assert (
                command("draw", "64", "-o", bytes_file, "--receipt", receipt, config=config).returncode == 0
            )
            verified = command("receipt", "verify", receipt, "--data", bytes_file, config=config)
            assert (verified.returncode, verified.stderr) == (0, "")
            assert "the broker on this machine" in verified.stdout
            hardware = command("status", "--require", "hardware", config=config)
            assert (hardware.returncode, "stick is simulated" in hardware.stderr) == (69, True)
        broker.wait_for_text("was unplugged")
        doctor = command("doctor", config=config)
        assert (doctor.returncode, "stick (simulated): off" in doctor.stdout) == (1, True)
        info = command("onerng", "info", config=config)
        assert (info.returncode, "hint: " in info.stderr) == (69, True)
        assert broker.stop() == 0
    assert broker.output.endswith("drawwell: stopped\n")


@pytest.mark.slow
def test_a_second_broker_and_a_taken_port_are_explained(tmp_path: Path, config: Path) -> None:
    """The two starts fail and name the conflict; doctor finds the port first."""
    with Daemon("run", config=config, log=tmp_path / "log") as broker:
        broker.wait_for_text("Ctrl-C stops")
        second = command("run", config=config)
        assert (second.returncode, "in use" in second.stderr, "hint: " in second.stderr) == (74, True, True)
        broker.stop()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with config.open("a") as file:
            file.write(f'[tls]\nlisten = "127.0.0.1:{taken.getsockname()[1]}"\n[enrol]\nlisten = ""\n')
        third = command("run", config=config)
        assert "cannot listen on 127.0.0.1" in third.stderr
        assert third.returncode == 78
        findings = json.loads(command("doctor", "--json", config=config).stdout)["findings"]
        blocked = [each["subject"] for each in findings if "cannot listen" in each["words"]]  # wording: JSON
        assert blocked == ["door tls"]


@pytest.mark.parametrize("verb", ["run", "broker"])
def test_a_state_that_cannot_be_made_is_explained(tmp_path: Path, config: Path, verb: str) -> None:
    """If the state directory is a file: a message, a hint and exit code 74."""
    shutil.rmtree(tmp_path / "state", ignore_errors=True)
    (tmp_path / "state").write_text("")
    done = command(verb, config=config)

    assert (done.returncode, done.stdout) == (74, "")
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr
