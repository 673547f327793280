"""Two machines follow the README, each in its own network."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest

from support.daemon import StickThread
from support.documents import lines_of
from support.machines import Machine

ROOT = Path(__file__).parents[2]
SSHD = shutil.which("sshd", path="/usr/sbin:/sbin:" + os.defpath)
pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for machines of their own"),
    pytest.mark.skipif(not SSHD or not shutil.which("ssh"), reason="OpenSSH's server or client is not here"),
]


def program(folder: Path) -> Path:
    """Write a drawwell that every account can run, as an installation does."""
    can = [sys.executable, "/usr/bin/python3"]
    command = ["setpriv", "--reuid=65534", "--clear-groups"]
    runs = [
        each
        for each in can
        if _succeeds(*command, each, "-c", "import sys; sys.exit(sys.version_info < (3, 11))")
    ]
    if not runs:
        pytest.skip("an account of its own can run no Python that is new enough")
    path = folder / "bin" / "drawwell"
    path.parent.mkdir()
    path.write_text(
        f"#!/bin/sh\nexport PYTHONPATH={ROOT}/src\n"
        f'[ "$(id -u)" = 0 ] && exec {sys.executable} -m drawwell "$@"\nexec {runs[0]} -m drawwell "$@"\n'
    )
    path.chmod(0o755)
    return path


def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """Return the broker's machine `well`, and two that know only its name."""
    folder = tmp_path_factory.mktemp("site")
    for each in (folder, *folder.parents):
        if each.stat().st_uid == os.geteuid() and not each.stat().st_mode & 0o001:
            each.chmod(each.stat().st_mode | 0o011)
    stick = folder / "onerng"
    env = {
        "PATH": f"{program(folder).parent}:{os.environ['PATH']}:/usr/sbin:/sbin",
        "HOME": "/root",
        "LANG": "C",
    }
    with ExitStack() as stack:
        stack.enter_context(StickThread(stick))
        try:
            well, web01, db01 = (
                stack.enter_context(Machine(name, folder / name, env))
                for name in ("well.example.org", "web01", "db01")
            )
        except OSError as reason:
            pytest.skip(str(reason))
        for machine, net in ((web01, 1), (db01, 2)):
            well.wire(machine, f"10.9.{net}.1/24", f"10.9.{net}.2/24")
            machine.write("/etc/hosts", f"127.0.0.1 localhost\n10.9.{net}.1 well.example.org\n")
        well.write("/etc/hosts", "127.0.0.1 localhost\n10.9.1.1 well.example.org\n")
        account = lines_of("docs/doors.md", "On the broker, once:")[0]
        well.sh(account)
        well.write(
            "/etc/drawwell/drawwell.toml",
            f'[tls]\nlisten = "*:55000"\n[ssh]\nuser = "drawwell-ssh"\n'
            f'[[source]]\nname = "stick"\ndriver = "onerng"\npath = "{stick}"\n',
        )
        well.start("drawwell", "run", log=folder / "run.log", until="healthy")
        yield SimpleNamespace(folder=folder, well=well, web01=web01, db01=db01)


def consumers(site: SimpleNamespace) -> dict[str, dict[str, object]]:
    """Return the broker's status of each consumer."""
    status = json.loads(site.well.sh("drawwell status --json").stdout)
    return {consumer["name"]: consumer for consumer in status["consumers"]}


def test_a_second_machine_draws_over_tls_by_the_readme_s_lines(site: SimpleNamespace) -> None:
    """Invited and joined with the token, web01 draws with a receipt."""
    invite, join, *rest = lines_of("README.md", "A second machine:")
    printed = site.well.sh(invite).stdout.strip()
    for line in (f"echo {printed} | {join}", *rest):
        site.web01.sh(line)
    assert consumers(site)["web01"]["full_bytes"] == 32


def test_a_third_machine_draws_over_ssh_by_the_readme_s_lines(site: SimpleNamespace) -> None:
    """With the printed line and the host key, db01 draws through sshd."""
    well, db01 = site.well, site.db01
    for machine, key in ((db01, "/root/.ssh/id_ed25519"), (well, "/etc/ssh/well_host_key")):
        machine.sh(f"mkdir -p -m 700 {Path(key).parent}; ssh-keygen -q -t ed25519 -N '' -f {key}")
    well.write("db01.pub", db01.read("/root/.ssh/id_ed25519.pub"))
    settings = lines_of("docs/doors.md", "On the broker, once:")[1:]
    well.write(
        "/etc/ssh/sshd_config",
        "\n".join(["HostKey /etc/ssh/well_host_key", "LogLevel VERBOSE", *settings]) + "\n",
    )
    well.sh("mkdir -p /run/sshd")
    well.start(str(SSHD), "-D", "-e", log=site.folder / "sshd.log", until="listening")
    db01.write("/root/.ssh/known_hosts", "well.example.org " + well.read("/etc/ssh/well_host_key.pub"))
    invite, draw = lines_of("README.md", "A third machine over SSH")
    well.sh(invite)
    drawn = db01.sh(draw).stdout.strip()
    assert re.fullmatch("[0-9a-f]{64}", drawn)
    assert consumers(site)["db01"]["full_bytes"] == 32


def test_a_broken_configuration_hides_nothing_of_what_runs(site: SimpleNamespace) -> None:
    """With a faulty file, status reports the fault and the running broker."""
    well = site.well
    well.sh("echo '[brokre]' >> /etc/drawwell/drawwell.toml")
    try:
        said = well.sh("drawwell status")
    finally:
        well.sh("sed -i '/brokre/d' /etc/drawwell/drawwell.toml")
    assert "the configuration has 1 fault" in said.stderr
    assert "ledger balanced" in said.stdout
