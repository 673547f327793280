"""Drawing over SSH with the real sshd and the real ssh: who is let in as whom, and what else that key is good for."""

import asyncio
import contextlib
import getpass
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from drawwell.entropy.blocks import DrawClass
from drawwell.errors import AuthenticationFailed, LinkUnavailable, PermissionRefused, QuotaExceeded
from drawwell.links.ssh import SshLink
from drawwell.testing import sick
from drawwell.wire.frames import Bye, Hello, Refusal, Welcome
from drawwell.wire.parser import FrameParser

SSHD = shutil.which("sshd", path="/usr/sbin:/sbin:" + os.defpath)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SSHD or not shutil.which("ssh"), reason="OpenSSH's server or client is not here"),
]
SOURCE = Path(__file__).parents[2] / "src"
PATIENCE_S = 30.0
"""How long a test waits before it calls a thing hung; nothing is asserted about it."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


def until(what: str, true) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, f"{what} never came true"
        time.sleep(0.05)


class Well:
    """A broker with an SSH door, sshd before it, and an account between them; all of it in one folder."""

    def __init__(self, folder: Path) -> None:
        folder.chmod(0o755)
        self.folder = folder
        self.port = free_port()
        self.account = getpass.getuser()
        self.made_account = False
        self.undo = contextlib.ExitStack()

    def build(self) -> None:
        """Make all of it; `undo` takes it away again, as far as it came."""
        if os.geteuid() == 0:
            self._make_account()
        self._make_program()
        self._make_broker()
        self._make_sshd()

    def _make_account(self) -> None:
        """An account with a real shell, no password, and nothing else."""
        self.account = f"dwssh{os.getpid()}"
        command = ["useradd", "--system", "--no-create-home", "--shell", "/bin/sh", "--password", "*"]
        subprocess.run([*command, self.account], check=True, capture_output=True)
        self.made_account = True
        self.undo.callback(subprocess.run, ["userdel", self.account], check=True, capture_output=True)

    def _make_program(self) -> None:
        """A program drawwell that the account may run, as an installation makes it."""
        program = self.folder / "drawwell"
        interpreter = next((each for each in (sys.executable, "/usr/bin/python3") if self._runs(each)), None)
        if interpreter is None:
            pytest.skip("the account can run no Python that is new enough")
        text = f"import sys\nsys.path.insert(0, {str(SOURCE)!r})\nfrom drawwell.cli import main\nsys.exit(main())\n"
        program.write_text(f"#!{interpreter}\n{text}")
        program.chmod(0o755)

    def _runs(self, interpreter: str) -> bool:
        words = ["sh", "-c", f"exec {interpreter} -c 'import tomllib'"]
        if self.made_account:
            words = ["setpriv", f"--reuid={self.account}", "--clear-groups", *words]
        return subprocess.run(words, capture_output=True, check=False).returncode == 0

    def _make_broker(self) -> None:
        noise, self.config = self.folder / "noise", self.folder / "drawwell.toml"
        noise.write_bytes(sick.good(7).read(2**20))
        self.config.write_text(
            f'[broker]\nname = "well"\nstate_dir = "{self.folder}/state"\nrun_dir = "{self.folder}/run"\n'
            f'[[source]]\nname = "noise"\ndriver = "replay"\npath = "{noise}"\n'
            f'[ssh]\nuser = "{self.account}"\n'
        )
        log = self.undo.enter_context((self.folder / "broker.log").open("wb"))
        self._start(self._words("run"), stderr=log, stdout=log)
        until("the broker's readiness", lambda: b'"ready": true' in self.run("status", "--json").stdout)

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
        words = [SSHD, "-D", "-f", self.folder / "sshd_config", "-E", self.folder / "sshd.log"]
        self._start(words)
        until("sshd", lambda: subprocess.run(["ssh-keyscan", "-p", str(self.port), "127.0.0.1"],
              capture_output=True, check=False).stdout)  # fmt: skip

    def _start(self, words: list, **more) -> None:
        """Run a process until the end of it all."""
        process = self.undo.enter_context(subprocess.Popen(words, **more))
        self.undo.callback(process.terminate)

    def make_key(self, name: str) -> None:
        words = [
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
        subprocess.run(words, check=True)

    def _words(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "drawwell", "-c", str(self.config), *words]

    def run(self, *words: str, **more) -> subprocess.CompletedProcess[bytes]:
        """One command line of drawwell on the broker's machine."""
        return subprocess.run(
            self._words(*words), capture_output=True, check=False, timeout=PATIENCE_S, **more
        )

    def invite(self, name: str, *terms: str, key: str = "") -> str:
        """Invite with the key of that name, and let it in as the operator would; the line names this program."""
        words = [self.folder / "drawwell", "-c", self.config, "consumer", "invite", name, *terms]
        words += ["--ssh-key", self.folder / f"{key or name}.pub"]
        done = subprocess.run(words, capture_output=True, check=False, timeout=PATIENCE_S)
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

    def ssh(self, key: str, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """The client itself, with whatever options."""
        base = ["ssh", "-F", str(self.folder / "ssh_config"), "-i", str(self.folder / key), "-oBatchMode=yes"]
        base += ["-p", str(self.port), "-l", self.account]
        return subprocess.run(
            [*base, *words], input=stdin, capture_output=True, check=False, timeout=PATIENCE_S
        )


@pytest.fixture(scope="module")
def well() -> Iterator[Well]:
    with tempfile.TemporaryDirectory(prefix="dw-") as name:
        well = Well(Path(name))
        with well.undo:
            well.build()
            well.invite("web01", "--quota", "4KiB/day")
            well.invite("db01")
            yield well


def frames(data: bytes) -> list:
    parser, found = FrameParser(), []
    parser.feed(data)
    while frame := parser.next_frame({kind.TYPE: kind for kind in (Welcome, Refusal, Bye)}):
        found.append(frame)
    return found


def account_of(well: Well, name: str) -> dict:
    consumers = json.loads(well.run("status", "--json").stdout)["consumers"]
    return next(each for each in consumers if each["name"] == name)


def test_key_draws_as_its_consumer(well: Well) -> None:
    """Every grant comes over ssh to the consumer of the key, and is on its account."""

    async def run() -> None:
        async with contextlib.aclosing(well.link("db01")) as link:
            assert (await link.welcome()).consumer == "db01"
            before = account_of(well, "db01")["full_bytes"]
            grants = [await link.draw(n, DrawClass.FULL) for n in (1, 32, 4096)]
            assert [len(grant.data) for grant in grants] == [1, 32, 4096]
            assert account_of(well, "db01")["full_bytes"] - before == 4129

    asyncio.run(run())


def test_quota_of_each_key_is_its_own(well: Well) -> None:
    """One consumer that has had its quota is refused with a time; the other is served on."""

    async def run() -> None:
        async with (
            contextlib.aclosing(well.link("web01")) as first,
            contextlib.aclosing(well.link("db01")) as second,
        ):
            for _ in range(4):
                await first.draw(1024, DrawClass.FULL)
            with pytest.raises(QuotaExceeded) as caught:
                await first.draw(1, DrawClass.FULL)
            assert caught.value.retry_after_s is not None
            assert len((await second.draw(1024, DrawClass.FULL)).data) == 1024
            assert account_of(well, "web01")["full_bytes"] == 4096

    asyncio.run(run())


@pytest.mark.parametrize(
    "asked",
    [
        "",
        "drawwell serve-stdio --consumer db01",
        "serve-stdio --consumer=db01",
        "sh -c 'echo gotcha; id'",
        "sftp",
    ],
)
def test_key_is_its_consumer_whatever_it_asks_for(well: Well, asked: str) -> None:
    """A command of the client's own is not run: the forced one is, for the consumer of the key."""
    said = well.ssh("web01", "-T", "127.0.0.1", asked, stdin=Hello((1,)).encode() + Bye().encode())

    welcome = frames(said.stdout)[0]
    assert isinstance(welcome, Welcome), said.stderr
    assert welcome.consumer == "web01"


def test_session_cannot_name_another_consumer(well: Well) -> None:
    """A second line that names another consumer is no frame, and ends the session."""
    said = well.ssh("web01", "-T", "127.0.0.1", stdin=b"db01\n" + Hello((1,)).encode())
    assert not any(isinstance(frame, Welcome) for frame in frames(said.stdout))


def test_key_opens_no_other_way(well: Well) -> None:
    """No terminal, nothing forwarded here or there, no tunnel through standard input, no subsystem."""
    with socket.create_server(("127.0.0.1", 0)) as target:
        target.settimeout(0.5)
        there = f"127.0.0.1:{target.getsockname()[1]}"
        refused = well.ssh("web01", "-W", there, "127.0.0.1")
        assert refused.returncode != 0
        assert b"prohibited" in refused.stderr

        local = free_port()
        through = well.ssh("web01", "-T", "-L", f"{local}:{there}", "-oExitOnForwardFailure=yes", "127.0.0.1")
        assert through.returncode == 0  # the client listens; nothing is carried
        remote = well.ssh("web01", "-T", "-R", f"0:{there}", "-oExitOnForwardFailure=yes", "127.0.0.1")
        assert remote.returncode != 0
        assert b"failed" in remote.stderr

        terminal = well.ssh("web01", "-tt", "127.0.0.1", stdin=Bye().encode())
        assert b"PTY allocation request failed" in terminal.stderr
        subsystem = well.ssh("web01", "-s", "127.0.0.1", "sftp", stdin=Hello((1,)).encode() + Bye().encode())
        assert not subsystem.stdout.startswith(
            b"\x00\x00"
        )  # sftp's length field; frames begin with their type
        with pytest.raises(TimeoutError):
            target.accept()


def test_forwarded_port_carries_nothing(well: Well) -> None:
    """While a session is open with -L, whoever connects to the port is cut off and the target hears nothing."""
    with socket.create_server(("127.0.0.1", 0)) as target:
        target.settimeout(0.5)
        local = free_port()
        words = [
            "ssh",
            "-F",
            str(well.folder / "ssh_config"),
            "-i",
            str(well.folder / "web01"),
            "-T",
            "-p",
            str(well.port),
            "-l",
            well.account,
        ]
        words += ["-L", f"127.0.0.1:{local}:127.0.0.1:{target.getsockname()[1]}", "127.0.0.1"]
        with subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as client:
            client.stdin.write(Hello((1,)).encode())
            client.stdin.flush()
            assert client.stdout.read(4)
            with socket.create_connection(("127.0.0.1", local)) as peer:
                peer.settimeout(PATIENCE_S)
                assert peer.recv(1) == b""
            with pytest.raises(TimeoutError):
                target.accept()
            client.stdin.close()


def test_unknown_key_is_told_what_ssh_says(well: Well) -> None:
    """A key that nobody let in gets no session, and the error has ssh's own words."""

    async def run() -> None:
        async with contextlib.aclosing(well.link("stranger")) as link:
            with pytest.raises(AuthenticationFailed, match="Permission denied"):
                await link.draw(32, DrawClass.FULL)

    asyncio.run(run())


def test_wrong_host_key_is_not_talked_to(well: Well) -> None:
    """Another host key than the known one ends it before anything is said."""

    async def run() -> None:
        async with contextlib.aclosing(well.link("db01")) as link:
            link._command[1:1] = ["-oUserKnownHostsFile=/dev/null"]
            with pytest.raises(AuthenticationFailed, match="Host key verification failed"):
                await link.draw(32, DrawClass.FULL)

    asyncio.run(run())


def test_host_that_is_not_there_is_said() -> None:
    """A port where nobody listens is a link that is unavailable, in ssh's own words."""

    async def run() -> None:
        nowhere = SshLink("ssh://nowhere", "127.0.0.1", port=free_port(), options=("-F", "none"))
        async with contextlib.aclosing(nowhere) as link:
            with pytest.raises(LinkUnavailable, match="refused"):
                await link.draw(32, DrawClass.FULL)

    asyncio.run(run())


def test_revoked_consumer_is_refused_in_its_open_session(well: Well) -> None:
    """The next draw after the revocation is refused, and so is the next session, whatever authorized_keys says."""
    well.make_key("gone01")
    well.invite("gone01")

    async def run() -> None:
        async with contextlib.aclosing(well.link("gone01")) as link:
            assert (await link.draw(32, DrawClass.FULL)).data
            assert well.run("consumer", "revoke", "gone01").returncode == 0
            with pytest.raises((PermissionRefused, LinkUnavailable)):
                await link.draw(32, DrawClass.FULL)
            with pytest.raises(PermissionRefused):
                await link.draw(32, DrawClass.FULL)

    asyncio.run(run())


def test_revoked_key_stays_out_when_its_consumer_gets_a_new_one(well: Well) -> None:
    """Both lines stand in authorized_keys, as an operator appends them: the new key draws, the old one does not."""
    for name in ("stolen", "fresh"):
        well.make_key(name)
    well.invite("web02", key="stolen")
    assert well.run("consumer", "revoke", "web02").returncode == 0
    well.invite("web02", key="fresh")

    async def run() -> None:
        async with contextlib.aclosing(well.link("stolen")) as stolen:
            with pytest.raises(PermissionRefused, match="does not come with this key"):
                await stolen.draw(32, DrawClass.FULL)
        async with contextlib.aclosing(well.link("fresh")) as fresh:
            assert (await fresh.welcome()).consumer == "web02"

    asyncio.run(run())


def ssh_on_the_path(well: Well) -> dict[str, str]:
    """An environment whose ssh knows the host, as the user's own configuration would."""
    program = well.folder / "bin" / "ssh"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {well.folder}/ssh_config "$@"\n')
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}


def test_command_line_draws_over_ssh(well: Well) -> None:
    """``draw --via ssh://`` runs the ssh on the PATH, and prints what was drawn."""
    with (well.folder / "ssh_config").open("a") as config:
        config.write(f"Match host 127.0.0.1\nIdentityFile {well.folder}/db01\n")
    url = f"ssh://{well.account}@127.0.0.1:{well.port}"

    done = well.run("draw", "16", "--hex", "--via", url, env=ssh_on_the_path(well))
    assert (done.returncode, len(done.stdout.strip())) == (0, 32), done.stderr


def test_machine_that_draws_over_ssh_pours(well: Well) -> None:
    """``run`` with an ssh upstream and its key pours what it draws into its sink, and ends with its ssh."""
    target, config = well.folder / "poured", well.folder / "consumer.toml"
    config.write_text(
        f'[broker]\nstate_dir = "{well.folder}/consumer"\nrun_dir = "{well.folder}/consumer-run"\n'
        f'[[upstream]]\nurl = "ssh://{well.account}@127.0.0.1:{well.port}"\nidentity = "{well.folder}/db01"\n'
        f'[[sink]]\nkind = "file"\npath = "{target}"\nchunk = "512B"\n'
    )
    target.touch()
    words = [sys.executable, "-m", "drawwell", "-c", str(config), "run"]
    with subprocess.Popen(words, env=ssh_on_the_path(well), stderr=subprocess.DEVNULL) as consumer:
        until("a full file", lambda: target.stat().st_size >= 1024)
        consumer.terminate()
    assert consumer.returncode == 0


def test_key_belongs_to_one_consumer(well: Well) -> None:
    """A key that is a consumer's already is not given to a second one; a private key is not taken, nor repeated."""
    taken = well.run("consumer", "invite", "other", "--ssh-key", str(well.folder / "db01.pub"))
    assert (taken.returncode, b"db01" in taken.stderr) == (64, True)
    private = well.run("consumer", "invite", "other", "--ssh-key", str(well.folder / "stranger"))
    assert private.returncode == 64
    assert (well.folder / "stranger").read_text().split("\n")[1].encode() not in private.stderr


def test_operator_sees_keys_and_changes_what_they_may_have(well: Well) -> None:
    """The list shows each key's fingerprint; terms are those of any consumer; --ttl means nothing for a key."""
    shown = subprocess.run(
        ["ssh-keygen", "-l", "-f", well.folder / "db01"], capture_output=True, check=True
    ).stdout
    assert shown.split()[1] in well.run("consumer", "list").stdout
    assert b"with a stream" in well.run("consumer", "quota", "db01", "--stream").stdout
    assert b"with a stream" not in well.run("consumer", "quota", "db01", "--no-stream").stdout
    path = str(well.folder / "db01.pub")
    assert well.run("consumer", "invite", "db01", "--ssh-key", path, "--ttl", "1h").returncode == 64
    assert well.run("consumer", "invite", "db01", "--ssh-key", "/nowhere").returncode != 0


def test_only_the_account_speaks_for_consumers(well: Well) -> None:
    """Another user of the machine who names a consumer on the SSH door's socket is refused; root is not."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to be another user")
    talk = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
        "s.sendall(sys.argv[2].encode() + bytes.fromhex(sys.argv[3])); s.shutdown(1);"
        "f = s.makefile('rb'); sys.stdout.buffer.write(f.read())"
    )
    words = ["/usr/bin/python3", "-c", talk, str(well.folder / "run" / "ssh.sock")]
    hello = (Hello((1,)).encode() + Bye().encode()).hex()
    nobody = pwd.getpwnam("nobody").pw_uid

    def said(name: str, *as_whom: str) -> object:
        done = subprocess.run(
            [*as_whom, *words, name, hello], capture_output=True, check=True, timeout=PATIENCE_S
        )
        return next(iter(frames(done.stdout)), None)

    stranger = ["setpriv", f"--reuid={nobody}", "--clear-groups"]
    account = ["setpriv", f"--reuid={well.account}", "--clear-groups"]
    listed = json.loads(well.run("consumer", "list", "--json").stdout)["consumers"]
    db01 = next(f"db01 {each['ssh_key']}\n" for each in listed if each["name"] == "db01")
    assert said(db01).consumer == "db01"
    assert said(db01, *account).consumer == "db01"
    assert isinstance(said(db01, *stranger), Refusal)
    assert isinstance(said("db01\n", *account), Refusal)
    assert isinstance(said("local\n", *account), Refusal)
    assert isinstance(said("nobody-such\n", *account), Refusal)
    assert said("x" * 129, *account) is None
