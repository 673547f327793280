"""A broker's life as its operator sees it: what he types, what he is told, what the exit codes are."""

import json
import shutil
import socket
from pathlib import Path

import pytest

from support.daemon import Daemon, command


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A broker of a simulated stick, which is not plugged in yet."""
    path = tmp_path / "drawwell.toml"
    path.write_text(
        f'[broker]\nname = "well"\nstate_dir = "{tmp_path}/state"\nrun_dir = "{tmp_path}/run"\n'
        f'[[source]]\nname = "stick"\ndriver = "onerng"\npath = "{tmp_path}/onerng"\n'
    )
    return path


@pytest.mark.slow
def test_an_unplugged_stick_is_named_everywhere(tmp_path: Path, config: Path) -> None:
    """Plugged in it is drawn from and its receipts verify; pulled out every verb says what is wrong and exits 69."""
    simulate = ("source", "simulate", "--link", str(tmp_path / "onerng"), "--rate", "0")
    bytes_file, receipt = str(tmp_path / "bytes"), str(tmp_path / "receipt")
    with Daemon("run", config=config, log=tmp_path / "log") as broker:
        broker.until_it_says("is not there; it is tried again")
        with Daemon(*simulate, config=config, log=tmp_path / "stick"):
            broker.until_it_says("stick (simulated): healthy")
            assert (
                command("draw", "64", "-o", bytes_file, "--receipt", receipt, config=config).returncode == 0
            )
            verified = command("receipt", "verify", receipt, "--data", bytes_file, config=config)
            assert (verified.returncode, verified.stderr) == (0, "")
            assert "the broker on this machine" in verified.stdout
            hardware = command("status", "--require", "hardware", config=config)
            assert (hardware.returncode, "stick is simulated" in hardware.stderr) == (69, True)
        broker.until_it_says("was unplugged")
        doctor = command("doctor", config=config)
        assert (doctor.returncode, "stick (simulated): off" in doctor.stdout) == (1, True)
        info = command("onerng", "info", config=config)
        assert (info.returncode, "hint: " in info.stderr) == (69, True)
        assert broker.stop() == 0
    assert broker.words.endswith("drawwell: stopped\n")


@pytest.mark.slow
def test_a_second_broker_and_a_taken_port_are_explained(tmp_path: Path, config: Path) -> None:
    """Neither starts; each says in words what is taken, and the doctor sees the port before anybody tries."""
    with Daemon("run", config=config, log=tmp_path / "log") as broker:
        broker.until_it_says("Ctrl-C stops")
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
        assert [each["subject"] for each in findings if "cannot listen" in each["words"]] == ["door tls"]


@pytest.mark.parametrize("verb", ["run", "broker"])
def test_a_state_that_cannot_be_made_is_explained(tmp_path: Path, config: Path, verb: str) -> None:
    """A file where the state directory should be ends it with words, a hint and 74, and without a traceback."""
    shutil.rmtree(tmp_path / "state", ignore_errors=True)
    (tmp_path / "state").write_text("")
    done = command(verb, config=config)

    assert (done.returncode, done.stdout) == (74, "")
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr
