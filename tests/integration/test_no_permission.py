"""A source whose node this user has no permission to open."""

import os
from pathlib import Path

import pytest

from drawwell.ownership import group_name, user_name
from support.daemon import PROGRAM, Daemon, command, hinted

OTHER = 65534
AS_USER = ("setpriv", f"--reuid={OTHER}", f"--regid={OTHER}", "--clear-groups", *PROGRAM)
program = AS_USER if os.geteuid() == 0 else PROGRAM


@pytest.mark.parametrize("driver", ["chardev", "onerng"])
def test_log_doctor_and_verify_show_how_to_get_the_permission(
    folder: Path, tmp_path: Path, driver: str
) -> None:
    """The log, doctor and `source verify` have the same hint."""
    node, config = folder / "node", folder / "drawwell.toml"
    os.mkfifo(node)
    node.chmod(0o040)  # for its group, but not for its owner, who runs the test
    config.write_text(
        f'[broker]\nstate_dir = "{folder}/state"\nrun_dir = "{folder}/run"\n'
        f'[[source]]\nname = "stick"\ndriver = "{driver}"\nmin_entropy = 1.0\npath = "{node}"\n'
    )
    if os.geteuid() == 0:
        for path in (folder, node):
            os.chown(path, OTHER, OTHER)
    with Daemon("run", config=config, log=tmp_path / "log", program=program) as running:
        running.wait_for_text("no permission to open")
        (said,) = (line for line in running.output.splitlines() if "no permission" in line)
        doctor = command("doctor", config=config, program=program).stdout
    verified = command("source", "verify", "stick", config=config, program=program)
    found = os.stat(node)
    join = f"usermod -aG {group_name(found.st_gid)} {user_name(found.st_uid)}"
    hint = said.partition("retrying. ")[2]
    assert f"join the node's group with '{join}'" in hint
    assert f"    {hint}\n" in doctor
    assert doctor.endswith(f"\nnext: {join}\n")
    assert hinted(verified) == [f"drawwell: hint: {hint}"]
