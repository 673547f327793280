"""The effect of `fleet init` and `fleet join` on the broker's unit."""

import os
from pathlib import Path

import pytest

from drawwell.cli import set_up
from drawwell.cli.fleet.setting_up import stopped_broker
from drawwell.config.load import load
from drawwell.errors import PermissionRefused

SYSTEMCTL = """#!/bin/sh
echo "$@" >> {log}
case "$*" in *is-active*) exit {code};; esac
"""


@pytest.mark.parametrize(("code", "starts"), [(0, 1), (3, 0)], ids=["running", "stopped"])
def test_a_refusal_leaves_the_broker_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, starts: int
) -> None:
    """After an error, a broker that was running runs again, and no other."""
    log, program = tmp_path / "log", tmp_path / "systemctl"
    program.write_text(SYSTEMCTL.format(log=log, code=code))
    program.chmod(0o755)
    (tmp_path / "broker.toml").write_text("")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(set_up, "_SYSTEMD", str(tmp_path))
    with pytest.raises(PermissionRefused), stopped_broker(load(str(tmp_path / "broker.toml"))):
        raise PermissionRefused("the invitation has expired")

    calls = [line.split()[-2] for line in log.read_text().splitlines()]
    assert calls.count("stop") == 1
    assert calls.count("start") == starts
