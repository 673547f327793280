"""``drawwell consumer``, ``join`` and ``renew`` with a broker."""

import asyncio
import contextlib
import json
import os
import pty
import socket
import subprocess
import sys
import threading
import time
from functools import partial

import pytest

from drawwell.authorisation import DoorKind, Principal
from drawwell.broker.control import Control
from drawwell.doors.enrol import EnrolDoor
from drawwell.doors.tls import TlsDoor
from drawwell.doors.unix import UnixDoor
from drawwell.enrolment.admin import ConsumerAdmin
from drawwell.enrolment.broker_details import BrokerDetails
from drawwell.enrolment.registry import InvitedRegistry
from drawwell.state.store import Store
from drawwell.testing.waiting import DEADLINE_S
from drawwell.wire.contexts import server_context
from support.certificates import own_authority
from support.fake_broker import FakeBroker


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


class Broker(FakeBroker):
    """A broker with control socket, TLS door and enrolment door, in a thread."""

    def __init__(self, directory) -> None:
        super().__init__()
        self.directory = directory
        self.store = Store(str(directory / "state" / "broker.db"))
        self.thread = threading.Thread(target=asyncio.run, args=(self._live(),))
        self.ready = threading.Event()
        for who in ("broker", "client"):
            control = directory / "control.sock"
            text = f'[broker]\nstate_dir = "{directory / who}"\n[control]\npath = "{control}"\n'
            (directory / f"{who}.toml").write_text(text)

    async def call(self, principal: Principal, verb: str, args: dict) -> dict:
        return await Control(self.admin.handlers())(principal, verb, args)

    async def _live(self) -> None:
        self.loop, self.stop = asyncio.get_running_loop(), asyncio.Event()
        authority = own_authority(str(self.directory / "state" / "pki"), time.time())
        registry = InvitedRegistry(self.store)
        enrol_port, tls_port = free_port(), free_port()
        site = BrokerDetails("well", f"127.0.0.1:{enrol_port}", (f"127.0.0.1:{tls_port}",))
        self.admin = ConsumerAdmin(self.store, registry, authority, site, clock=time.time)
        files = partial(authority.enrol_files, time.time())
        enrol = EnrolDoor(self.admin, "127.0.0.1", enrol_port, files=files, clock=time.time)
        server = authority.server_files(["127.0.0.1"], time.time())
        tls = TlsDoor(
            "127.0.0.1", tls_port, lambda: server_context(*server, authority.authorities), self, registry
        )
        control = UnixDoor(
            str(self.directory / "control.sock"), self, lambda *_: "local", mode=0o600, way=DoorKind.CONTROL
        )
        async with asyncio.TaskGroup() as tasks:
            serving = [tasks.create_task(door.serve()) for door in (enrol, tls, control)]
            await asyncio.gather(enrol.shut.wait(), tls.ready.wait(), control.ready.wait())
            self.ready.set()
            await self.stop.wait()
            for task in serving:
                task.cancel()

    def run(self, who: str, *argv: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "drawwell", *argv, "--config", str(self.directory / f"{who}.toml")]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)

    def invite(self, *argv: str) -> str:
        return self.run("broker", "consumer", "invite", *argv).stdout


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    broker = Broker(tmp_path_factory.mktemp("cli"))
    broker.thread.start()
    assert broker.ready.wait(DEADLINE_S)
    yield broker
    broker.loop.call_soon_threadsafe(broker.stop.set)
    broker.thread.join()
    broker.store.close()


def test_invite_prints_one_line_and_join_takes_it(broker) -> None:
    """Invite prints one line; join reads it and prints the identity."""
    invited = broker.run("broker", "consumer", "invite", "web01", "--rate", "4KiB/s", "--quota", "10MiB/day")
    joined = broker.run("client", "join", "-", "--json", stdin=invited.stdout)

    assert invited.stdout.startswith("dw1.127.0.0.1:")
    assert invited.stdout.count("\n") == 1
    assert "works once" in invited.stderr
    document = json.loads(joined.stdout)
    assert (document["consumer"], document["broker"]) == ("web01", "well")
    assert document["directory"] == str(broker.directory / "client" / "links" / "127.0.0.1")


def test_a_token_as_argument_works_and_warns(broker) -> None:
    """A token as an argument is visible, so join warns; on a pipe it is not."""
    token = broker.invite("web09").strip()
    joined = broker.run("client", "join", token, "--name", "nine")
    assert joined.returncode == 0
    assert "all local users can see" in joined.stderr

    token = broker.invite("web10").strip()
    joined = broker.run("client", "join", "--name", "ten", stdin=token)
    assert joined.returncode == 0
    assert "all local users" not in joined.stderr


def test_join_asks_for_the_token_on_a_terminal(broker) -> None:
    """The terminal does not echo the pasted token."""
    token = broker.invite("web11").strip()
    master, slave = pty.openpty()
    program = [sys.executable, "-m", "drawwell", "join", "--name", "eleven"]
    program += ["--config", str(broker.directory / "client.toml")]
    with subprocess.Popen(
        program, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    ) as process:
        os.close(slave)
        shown = b""
        while b"invite': " not in shown:
            shown += os.read(master, 4096)
        os.write(master, token.encode() + b"\n")
        with contextlib.suppress(OSError):  # EIO: the other end has closed
            while piece := os.read(master, 4096):
                shown += piece
    os.close(master)
    assert process.returncode == 0, shown
    assert token.encode() not in shown


def test_list_shows_the_state_of_an_invitation(broker) -> None:
    """An invitation is pending, then used with a certificate, then revoked."""

    def line() -> str:
        listed = broker.run("broker", "consumer", "list", "--all").stdout.splitlines()
        return next(row for row in listed if row.startswith("listed"))

    token = broker.invite("listed", "--rate", "1KiB/s", "--class", "drbg")
    pending = line()
    broker.run("client", "join", "-", "--name", "listed", stdin=token)
    used = line()
    broker.run("broker", "consumer", "revoke", "listed")

    shown = broker.run("broker", "consumer", "list").stdout
    assert "listed" not in shown
    assert "revoked: --all" in shown
    assert pending.split()[1:] == ["drbg", "1KiB/s", "none", "pending", "none", "yet"]
    assert used.split()[4:7] == ["used", "from", "127.0.0.1"]
    assert "until" in used
    assert "revoked" in line()


def test_quota_changes_what_is_named_and_leaves_the_rest(broker) -> None:
    """A new rate does not change the quota; "none" removes the quota."""
    broker.invite("limited", "--rate", "1KiB/s", "--quota", "1MiB/day")

    changed = broker.run("broker", "consumer", "quota", "limited", "--rate", "2KiB/s", "--json")
    lifted = broker.run("broker", "consumer", "quota", "limited", "--quota", "none")

    document = json.loads(changed.stdout)
    assert (document["rate"], document["quota"]) == ("2KiB/s", "1MiB/day")
    assert lifted.stdout == "limited: class drbg+full, rate 2KiB/s, quota none\n"


def test_renew_renews_when_forced_and_not_before_it_is_due(broker) -> None:
    """Renew does not renew a fresh certificate unless forced."""
    broker.run("client", "join", "-", "--name", "renewing", stdin=broker.invite("renewing"))

    idle = broker.run("client", "renew", "renewing")
    forced = broker.run("client", "renew", "renewing", "--force")

    assert (idle.stdout, idle.returncode) == ("well: not yet due\n", 0)
    assert (forced.stdout, forced.returncode) == ("well: renewed\n", 0)


def test_a_used_token_exits_77_with_a_hint(broker) -> None:
    """A second join with the same token exits with 77 and a reason."""
    token = broker.invite("once")
    broker.invite("keeps-the-door-open")
    broker.run("client", "join", "-", "--name", "once", stdin=token)

    again = broker.run("client", "join", "-", "--name", "twice", stdin=token)

    assert again.returncode == 77
    assert "was already used from 127.0.0.1 at " in again.stderr


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (("join", "dw1.cut"), 64, "incomplete"),
        (
            ("join", "--name", "other", "dw1.127.0.0.1:1." + "A" * 43 + ".AAAAAAAAAAA." + "A" * 43),
            69,
            "cannot join",
        ),
        (("consumer", "invite", "Web 01"), 64, "is not a valid consumer name"),
        (("consumer", "invite", "web02", "--rate", "fast"), 64, "'fast'"),
        (("consumer", "invite", "web02", "--ttl", "1 year"), 64, "'1 year'"),
        (("consumer", "invite", "web02", "--ttl", "8 days"), 64, "at most 7 days"),
        (("consumer", "revoke", "unknown"), 64, "'unknown'"),
        (("consumer", "quota", "web01"), 64, "nothing to change"),
        (("renew", "nowhere"), 64, "nowhere"),
    ],
)
def test_mistakes_exit_with_their_code_and_a_hint(broker, argv, code, message) -> None:
    """Each mistake has its exit code, message and hint, and no output."""
    result = broker.run("client", *argv)

    assert (result.returncode, result.stdout) == (code, "")
    assert message in result.stderr
    assert "drawwell: hint: " in result.stderr


def test_without_a_broker_the_verbs_exit_69(broker, tmp_path) -> None:
    """Without a broker, its commands exit with 69 and a hint."""
    config = tmp_path / "none.toml"
    config.write_text(f'[control]\npath = "{tmp_path / "none.sock"}"\n')
    command = [sys.executable, "-m", "drawwell", "consumer", "list", "--config", str(config)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ})

    assert result.returncode == 69
    assert "hint" in result.stderr
