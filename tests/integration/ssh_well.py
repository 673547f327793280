"""A broker behind sshd, in its own folder."""

import contextlib
import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from drawwell.links.ssh import SshLink
from drawwell.testing import sick
from drawwell.testing.waiting import DEADLINE_S, wait_until

SSHD = shutil.which("sshd", path="/usr/sbin:/sbin:" + os.defpath)
SOURCE = Path(__file__).parents[2] / "src"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


class Well:
    """A broker with an SSH door, an sshd and its account, in one folder."""

    def __init__(self, folder: Path) -> None:
        folder.chmod(0o755)
        self.folder = folder
        self.port = free_port()
        self.account = getpass.getuser()
        self.made_account = False
        self.undo = contextlib.ExitStack()

    def build(self) -> None:
        """Create everything; `undo` removes what was created."""
        if os.geteuid() == 0:
            self._make_account()
        self._make_program()
        self._make_broker()
        self._make_sshd()

    def _make_account(self) -> None:
        """Create an account with a real shell and without a password."""
        self.account = f"dwssh{os.getpid()}"
        command = ["useradd", "--system", "--no-create-home", "--shell", "/bin/sh", "--password", "*"]
        subprocess.run([*command, self.account], check=True, capture_output=True)
        self.made_account = True
        self.undo.callback(subprocess.run, ["userdel", self.account], check=True, capture_output=True)

    def _make_program(self) -> None:
        """Write a drawwell that the account can run, as an installation does."""
        program = self.folder / "drawwell"
        interpreter = next((each for each in (sys.executable, "/usr/bin/python3") if self._runs(each)), None)
        if interpreter is None:
            pytest.skip("the account can run no Python that is new enough")
        text = f"import sys\nsys.path.insert(0, {str(SOURCE)!r})\nfrom drawwell.cli import main\nsys.exit(main())\n"
        program.write_text(f"#!{interpreter}\n{text}")
        program.chmod(0o755)

    def _runs(self, interpreter: str) -> bool:
        command = ["sh", "-c", f"exec {interpreter} -c 'import tomllib'"]
        if self.made_account:
            command = ["setpriv", f"--reuid={self.account}", "--clear-groups", *command]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def _make_broker(self) -> None:
        noise, self.config = self.folder / "noise", self.folder / "drawwell.toml"
        noise.write_bytes(sick.good(7).read(2**20))
        self.config.write_text(
            f'[broker]\nname = "well"\nstate_dir = "{self.folder}/state"\nrun_dir = "{self.folder}/run"\n'
            f'[[source]]\nname = "noise"\ndriver = "replay"\npath = "{noise}"\n'
            f'[ssh]\nuser = "{self.account}"\n'
        )
        log = self.undo.enter_context((self.folder / "broker.log").open("wb"))
        self._start(self._command("run"), stderr=log, stdout=log)
        wait_until(lambda: b'"ready": true' in self.run("status", "--json").stdout, "the broker is ready")

    def _make_sshd(self) -> None:
        self.keys = self.folder / "authorized_keys"
        self.keys.touch(0o644)
        self.make_key("host")
        for name in ("web01", "db01", "stranger"):
            self.make_key(name)
        (self.folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.folder}/host\nPidFile none\n"
            f"AuthorizedKeysFile {self.keys}\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
            "KbdInteractiveAuthentication no\nAllowTcpForwarding yes\nPermitTTY yes\nLogLevel VERBOSE\n"
        )
        host = (self.folder / "host.pub").read_text().split()
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {host[0]} {host[1]}\n")
        (self.folder / "ssh_config").write_text(
            f"UserKnownHostsFile {self.folder}/known_hosts\nGlobalKnownHostsFile none\nStrictHostKeyChecking yes\n"
            "IdentitiesOnly yes\n"
        )
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        command = [SSHD, "-D", "-f", self.folder / "sshd_config", "-E", self.folder / "sshd.log"]
        self._start(command)
        scan = ["ssh-keyscan", "-p", str(self.port), "127.0.0.1"]
        wait_until(lambda: subprocess.run(scan, capture_output=True, check=False).stdout, "sshd answers")

    def _start(self, command: list, **more) -> None:
        """Run a process until the test ends."""
        process = self.undo.enter_context(subprocess.Popen(command, **more))
        self.undo.callback(process.terminate)

    def make_key(self, name: str) -> None:
        command = [
            "ssh-keygen",
            "-q",
            "-t",
            "ed25519",
            "-N",
            "",
            "-C",
            f"{name}@test",
            "-f",
            self.folder / name,
        ]
        subprocess.run(command, check=True)

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "drawwell", "-c", str(self.config), *arguments]

    def run(self, *arguments: str, **more) -> subprocess.CompletedProcess[bytes]:
        """Run a drawwell command on the broker's machine."""
        return subprocess.run(
            self._command(*arguments), capture_output=True, check=False, timeout=DEADLINE_S, **more
        )

    def invite(self, name: str, *terms: str, key: str = "") -> str:
        """Invite a consumer and authorize its key, with this program."""
        command = [self.folder / "drawwell", "-c", self.config, "consumer", "invite", name, *terms]
        command += ["--ssh-key", self.folder / f"{key or name}.pub"]
        done = subprocess.run(command, capture_output=True, check=False, timeout=DEADLINE_S)
        assert done.returncode == 0, done.stderr
        line = done.stdout.decode()
        with self.keys.open("a") as keys:
            keys.write(line)
        return line

    def link(self, key: str, **more) -> SshLink:
        options = ("-F", str(self.folder / "ssh_config"))
        identity = str(self.folder / key)
        return SshLink(
            "ssh://well",
            "127.0.0.1",
            user=self.account,
            port=self.port,
            identity=identity,
            options=options,
            **more,
        )

    def ssh(self, key: str, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run the client itself, with any options."""
        base = ["ssh", "-F", str(self.folder / "ssh_config"), "-i", str(self.folder / key), "-oBatchMode=yes"]
        base += ["-p", str(self.port), "-l", self.account]
        return subprocess.run(
            [*base, *arguments], input=stdin, capture_output=True, check=False, timeout=DEADLINE_S
        )


def account_of(well: Well, name: str) -> dict:
    consumers = json.loads(well.run("status", "--json").stdout)["consumers"]
    nothing_yet = {"full_bytes": 0}  # an account is opened at the first draw
    return next((each for each in consumers if each["name"] == name), nothing_yet)
