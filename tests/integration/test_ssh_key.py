"""What a consumer's SSH key allows, and what it does not."""

import asyncio
import contextlib
import json
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from drawwell.entropy.blocks import DrawClass
from drawwell.errors import AuthenticationFailed, QuotaExceeded
from drawwell.testing.waiting import DEADLINE_S
from drawwell.wire.frames import Bye, Hello, Refusal, Welcome
from drawwell.wire.parser import FrameParser
from integration.ssh_well import SSHD, Well, account_of, free_port

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SSHD or not shutil.which("ssh"), reason="OpenSSH's server or client is not here"),
]


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


def test_quota_of_each_key_is_its_own(well: Well) -> None:
    """A consumer over its quota is refused with a time; others can draw."""

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
    """sshd runs the forced command, not the client's command."""
    said = well.ssh("web01", "-T", "127.0.0.1", asked, stdin=Hello((1,)).encode() + Bye().encode())

    welcome = frames(said.stdout)[0]
    assert isinstance(welcome, Welcome), said.stderr
    assert welcome.consumer == "web01"


def test_session_cannot_name_another_consumer(well: Well) -> None:
    """A second line with another consumer is not a frame and ends the session."""
    said = well.ssh("web01", "-T", "127.0.0.1", stdin=b"db01\n" + Hello((1,)).encode())
    assert not any(isinstance(frame, Welcome) for frame in frames(said.stdout))


def test_key_opens_no_other_way(well: Well) -> None:
    """The key gives no terminal, forwarding, tunnel or subsystem."""
    with socket.create_server(("127.0.0.1", 0)) as target:
        target.settimeout(0.5)  # short: nothing arrives
        there = f"127.0.0.1:{target.getsockname()[1]}"
        refused = well.ssh("web01", "-W", there, "127.0.0.1")
        assert refused.returncode != 0
        assert b"prohibited" in refused.stderr

        local = free_port()
        through = well.ssh("web01", "-T", "-L", f"{local}:{there}", "-oExitOnForwardFailure=yes", "127.0.0.1")
        assert through.returncode == 0  # the client listens; no data passes
        remote = well.ssh("web01", "-T", "-R", f"0:{there}", "-oExitOnForwardFailure=yes", "127.0.0.1")
        assert remote.returncode != 0
        assert b"failed" in remote.stderr

        terminal = well.ssh("web01", "-tt", "127.0.0.1", stdin=Bye().encode())
        assert b"PTY allocation request failed" in terminal.stderr
        subsystem = well.ssh("web01", "-s", "127.0.0.1", "sftp", stdin=Hello((1,)).encode() + Bye().encode())
        assert not subsystem.stdout.startswith(
            b"\x00\x00"
        )  # sftp's length field; frames start with their type
        with pytest.raises(TimeoutError):
            target.accept()


def test_forwarded_port_carries_nothing(well: Well) -> None:
    """With -L the port's connections are closed, and no data is forwarded."""
    with socket.create_server(("127.0.0.1", 0)) as target:
        target.settimeout(0.5)  # short: nothing arrives
        local = free_port()
        command = [
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
        command += ["-L", f"127.0.0.1:{local}:127.0.0.1:{target.getsockname()[1]}", "127.0.0.1"]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as client:
            client.stdin.write(Hello((1,)).encode())
            client.stdin.flush()
            assert client.stdout.read(4)
            with socket.create_connection(("127.0.0.1", local)) as peer:
                peer.settimeout(DEADLINE_S)
                assert peer.recv(1) == b""
            with pytest.raises(TimeoutError):
                target.accept()
            client.stdin.close()


def test_unknown_key_gets_the_message_of_ssh(well: Well) -> None:
    """An unauthorized key gets no session; the error has ssh's message."""

    async def run() -> None:
        async with contextlib.aclosing(well.link("stranger")) as link:
            with pytest.raises(AuthenticationFailed, match="Permission denied"):
                await link.draw(32, DrawClass.FULL)

    asyncio.run(run())


def test_key_belongs_to_one_consumer(well: Well) -> None:
    """A second consumer with the key is refused; a private key, unprinted."""
    taken = well.run("consumer", "invite", "other", "--ssh-key", str(well.folder / "db01.pub"))
    assert (taken.returncode, b"db01" in taken.stderr) == (64, True)
    private = well.run("consumer", "invite", "other", "--ssh-key", str(well.folder / "stranger"))
    assert private.returncode == 64
    assert (well.folder / "stranger").read_text().split("\n")[1].encode() not in private.stderr


def test_only_the_account_speaks_for_consumers(well: Well) -> None:
    """Only the account and root can name a consumer at the door's socket."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to be another user")
    talk = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
        "s.sendall(sys.argv[2].encode() + bytes.fromhex(sys.argv[3])); s.shutdown(1);"
        "f = s.makefile('rb'); sys.stdout.buffer.write(f.read())"
    )
    command = ["/usr/bin/python3", "-c", talk, str(well.folder / "run" / "ssh.sock")]
    hello = (Hello((1,)).encode() + Bye().encode()).hex()
    stranger_uid = pwd.getpwnam("daemon").pw_uid

    def said(name: str, *as_whom: str) -> object:
        done = subprocess.run(
            [*as_whom, *command, name, hello], capture_output=True, check=True, timeout=DEADLINE_S
        )
        return next(iter(frames(done.stdout)), None)

    stranger = ["setpriv", f"--reuid={stranger_uid}", "--clear-groups"]
    account = ["setpriv", f"--reuid={well.account}", "--clear-groups"]
    listed = json.loads(well.run("consumer", "list", "--json").stdout)["consumers"]
    db01 = next(f"db01 {each['ssh_key']}\n" for each in listed if each["name"] == "db01")
    assert said(db01).consumer == "db01"
    assert said(db01, *account).consumer == "db01"
    assert isinstance(said(db01, *stranger), Refusal)
    assert isinstance(said("db01\n", *account), Refusal)
    assert isinstance(said("local\n", *account), Refusal)
    assert isinstance(said("no-such\n", *account), Refusal)
    assert said("x" * 129, *account) is None
