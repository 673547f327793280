"""The units under a real systemd in a container."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from drawwell.testing.waiting import DEADLINE_S, wait_until
from lab.cache import or_skip
from lab.package import package
from lab.roots import Root, container

pytestmark = [pytest.mark.root, pytest.mark.slow]

BROKER = "drawwell-broker.service"
CONF = "etc/drawwell/conf.d"
NOISE = """[[source]]
name = "noise"
driver = "chardev"
path = "/dev/urandom"
allow_os_generator = true
min_entropy = 1.0
"""
"""A source for a machine without one."""
IN_A_CONTAINER = "[Unit]\nConditionVirtualization=\n"
"""A drop-in that makes the kernel's unit, meant for hosts, run here."""
ALARM = "[Service]\nType=oneshot\nExecStart=/bin/touch /run/alarm\n"
KEPT = """
import socket, subprocess, sys
peer = socket.socket(socket.AF_UNIX)
peer.settimeout(300)
peer.connect("/run/drawwell/guests/web/egd.sock")
subprocess.run(["systemctl", "restart", "drawwell-broker.service"], check=True)
peer.sendall(bytes((2, 64)) * 8)
data = b""
while len(data) < 512 and (more := peer.recv(512)):
    data += more
print(len(data))
"""
"""Connects like QEMU, and requests from the next broker more than the socket has."""


ASK = """
import asyncio, json, sys
from drawwell.errors import DrawwellError
from drawwell.links.unix import UnixLink
try:
    print(asyncio.run(UnixLink("/run/drawwell/control.sock").call(sys.argv[1], json.loads(sys.argv[2]))))
except DrawwellError as error:
    sys.exit(f"{error}: {error.hint}")
"""
"""Calls the broker as its owner."""
CONNECTS = """
import socket
sock = socket.socket(socket.AF_UNIX)
sock.connect("/run/drawwell/guests/vm/egd.sock")
try:
    sock.send(bytes((2, 8)))
    print(len(sock.recv(8)))
except OSError:
    print(0)
"""
"""Sends a request like QEMU; EOF counts as no answer."""


@pytest.fixture(scope="module")
def root() -> Iterator[Root]:
    """Return a Debian with systemd, the package, a source and the feeder."""
    with or_skip():
        deb = package()
        with container("bookworm") as booted:
            (booted.path / CONF).mkdir(parents=True)
            (booted.path / CONF / "noise.toml").write_text(NOISE)
            drop_in(booted, "drawwell-kernel.service", IN_A_CONTAINER)
            shutil.copy(deb, booted.path / "root" / "drawwell.deb")
            booted.run("apt-get", "install", "--yes", "--no-install-recommends", "/root/drawwell.deb")
            wait_until(lambda: status(booted).get("ready"), "the source serves")
            booted.run("useradd", "--no-create-home", "--groups", "drawwell", "watcher")
            booted.run("useradd", "--no-create-home", "stranger")
            yield booted


def drop_in(root: Root, unit: str, text: str) -> None:
    folder = root.path / "etc/systemd/system" / f"{unit}.d"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "test.conf").write_text(text)


def status(root: Root, *more: str) -> dict:
    done = root.run("drawwell", *more, "--json", "status", check=False)
    return json.loads(done.stdout) if done.returncode == 0 else {}


def shown(root: Root, unit: str, name: str) -> str:
    return root.output("systemctl", "show", "--value", f"--property={name}", unit)


def shows(root: Root, unit: str, text: str) -> None:
    """Wait until the status line starts so; it changes within seconds."""
    wait_until(lambda: shown(root, unit, "StatusText").startswith(text), f"{unit} shows {text!r}")


def test_the_brokers_user_can_open_no_key_of_the_signer(root: Root) -> None:
    """Another user owns the keys of root, intermediate and receipts."""
    keys = root.output("sh", "-c", "ls /var/lib/drawwell-signer/*key.pem").split()
    assert {key.rpartition("/")[2] for key in keys} == {
        "root-key.pem", "intermediate-key.pem", "receipt-key.pem"
    }  # fmt: skip
    for key in keys:
        assert root.run("runuser", "-u", "drawwell", "--", "cat", key, check=False).returncode != 0
        assert root.run("test", "-s", key).returncode == 0
    assert root.output("find", "/var/lib/drawwell", "-name", "*key.pem") == ""
    root.run("drawwell", "draw", "8", "--hex", "--receipt", "/root/receipt")
    shown_keys = json.loads(root.run("drawwell", "--quiet", "--json", "pki", "show").stdout)
    assert shown_keys["root_key_is_here"]
    done = root.run("runuser", "-u", "drawwell", "--", "drawwell", "pki", "rotate", "receipts", check=False)
    assert done.returncode == 77


def test_each_process_is_a_user_of_its_own_with_no_more_rights_than_it_needs(root: Root) -> None:
    """There are three users, and only the feeder has CAP_SYS_ADMIN."""
    wanted = {
        BROKER: ("drawwell", 0),
        "drawwell-named@noise.service": ("drawwell-source", 0),
        "drawwell-kernel.service": ("drawwell-kernel", 1 << 21),
    }
    for unit, (user, rights) in wanted.items():
        pid = shown(root, unit, "MainPID")
        assert root.output("stat", "--format=%U", f"/proc/{pid}") == user
        facts = dict(line.split(":", 1) for line in root.output("cat", f"/proc/{pid}/status").splitlines())
        for capabilities in ("CapEff", "CapBnd", "CapAmb"):
            assert int(facts[capabilities], 16) == rights, unit
        assert facts["NoNewPrivs"].strip() == "1"
        assert facts["Seccomp"].strip() == "2"


def test_the_kernel_is_fed_and_units_that_wait_for_that_start(root: Root) -> None:
    """Consumer kernel draws, the target is reached, without credit."""
    root.run("systemctl", "start", "drawwell-seeded.target")
    report = status(root)
    assert report["kernel"]["sink"]["delivered_bytes"] >= 64
    assert report["kernel"]["sink"]["credited_bits"] == 0
    kernel = next(each for each in report["consumers"] if each["name"] == "kernel")
    assert kernel["full_bytes"] == report["kernel"]["sink"]["delivered_bytes"]
    shows(root, "drawwell-kernel.service", "fed ")


def test_the_manager_shows_the_state(root: Root) -> None:
    """Every user can read the status lines of broker and source."""
    shows(root, BROKER, "healthy, ")
    shows(root, "drawwell-named@noise.service", "healthy")


def test_a_member_of_the_group_looks_and_does_nothing_else(root: Root) -> None:
    """Group members can only read the status; other users cannot."""

    def tries(user: str, *arguments: str) -> int:
        return root.run("runuser", "-u", user, "--", "drawwell", *arguments, check=False).returncode

    assert tries("watcher", "status", "--require", "ready", "--require", "verified") in {0, 69}
    seen = root.output("runuser", "-u", "watcher", "--", "drawwell", "status")
    assert "noise" in seen
    assert "sink kernel" in seen
    for arguments in (("draw", "8", "--hex"), ("source", "reset", "noise"), ("consumer", "list")):
        assert tries("watcher", *arguments) == 77
    assert tries("stranger", "status") == 77
    refused = root.run(
        "runuser", "-u", "stranger", "--", "drawwell", "draw", "8", "--hex", check=False
    ).stdout
    assert 'user = "stranger"' in refused


def test_each_socket_has_the_group_that_may_open_it(root: Root) -> None:
    """Group members can open the control socket, but not the sources'."""
    sockets = root.output(
        "stat", "--format=%n %a %G", "/run/drawwell/control.sock", "/run/drawwell/source.sock"
    )
    assert sockets.splitlines() == [
        "/run/drawwell/control.sock 660 drawwell",
        "/run/drawwell/source.sock 660 drawwell-source",
    ]


def test_a_configuration_that_is_broken_at_reload_leaves_the_old_one(root: Root) -> None:
    """The reload fails and is reported; the broker keeps serving."""
    broken = root.path / CONF / "z.toml"
    broken.write_text("[brokr]\n")
    assert root.run("systemctl", "reload", BROKER, check=False).returncode
    good = ("--config", "/etc/drawwell/conf.d/noise.toml")
    wait_until(lambda: any("brokr" in note for note in status(root, *good)["notes"]), "the note is there")
    assert "brokr" in shown(root, BROKER, "StatusText")
    assert "brokr" in root.output("journalctl", "--unit", BROKER, "--priority=err")
    broken.unlink()
    root.run("systemctl", "reload", BROKER)
    wait_until(lambda: status(root)["notes"] == [], "the note is gone")


def test_the_journal_has_the_source_as_a_field(root: Root) -> None:
    """Journal entries of source and broker have the source's name."""
    lines = root.output("journalctl", "--output=json", "DRAWWELL_SOURCE=noise").splitlines()
    assert {json.loads(line)["_UID"] for line in lines} >= {root.output("id", "-u", "drawwell-source")}


def test_sockets_stay_over_a_restart_and_go_with_the_broker(root: Root) -> None:
    """A restart keeps the sockets; a stop removes them."""
    inode = root.output("stat", "--format=%i", "/run/drawwell/draw.sock")
    assert root.output("stat", "--format=%a %G", "/run/drawwell/control.sock") == "660 drawwell"
    root.run("systemctl", "restart", BROKER)
    assert root.output("stat", "--format=%i", "/run/drawwell/draw.sock") == inode
    root.run("systemctl", "stop", BROKER)
    wait_until(
        lambda: not root.output("sh", "-c", "ls /run/drawwell/*.sock 2>/dev/null"), "the sockets are gone"
    )
    assert "no broker is running here" in root.output("drawwell", "draw", "8", "--hex")
    root.run("systemctl", "start", BROKER)
    wait_until(lambda: status(root).get("ready"), "it serves again")
    assert shown(root, "drawwell-named@noise.service", "ActiveState") == "active"


def test_a_guests_connection_outlives_a_restart(root: Root) -> None:
    """A connection survives the restart; the next process answers."""
    root.run("python3", "-c", ASK, "guest.add", json.dumps({"name": "web", "kind": "qemu", "via": "virtio"}))
    assert root.run("python3", "-c", KEPT).stdout.strip() == "512"
    root.run("python3", "-c", ASK, "guest.remove", json.dumps({"name": "web", "timeout_s": DEADLINE_S}))


def test_a_guests_socket_is_for_the_user_that_it_runs_as(root: Root) -> None:
    """A broker without capabilities admits only that user and root."""
    guest = json.dumps({"name": "vm", "kind": "qemu", "via": "virtio", "uid": 65534})
    root.run("python3", "-c", ASK, "guest.add", guest)
    for user, expected in (("65534", "8"), ("0", "8"), ("1", "0")):
        command = ("setpriv", f"--reuid={user}", "--clear-groups", "python3", "-c", CONNECTS)
        assert root.output(*command).splitlines()[-1:] == [expected], user
    root.run("python3", "-c", ASK, "guest.remove", json.dumps({"name": "vm", "timeout_s": DEADLINE_S}))


def test_a_broker_that_hangs_is_killed_and_started_again(root: Root) -> None:
    """A broker that misses the watchdog is replaced, and serves."""
    drop_in(root, BROKER, "[Service]\nWatchdogSec=2\n")
    root.run("systemctl", "daemon-reload")
    root.run("systemctl", "restart", BROKER)
    root.run("kill", "-STOP", shown(root, BROKER, "MainPID"))
    wait_until(lambda: shown(root, BROKER, "NRestarts") == "1", "it is started again")
    wait_until(lambda: status(root).get("ready"), "it serves again")
    assert "watchdog" in root.output("journalctl", "--unit", BROKER)


def test_what_cannot_start_fails_once_and_starts_onfailure(root: Root) -> None:
    """An unusable configuration exits 78, once, and starts OnFailure=."""
    (root.path / "etc/systemd/system/alarm.service").write_text(ALARM)
    drop_in(root, BROKER, "[Unit]\nOnFailure=alarm.service\n")
    root.run("systemctl", "daemon-reload")
    broken = root.path / CONF / "z.toml"
    broken.write_text("[brokr]\n")
    assert root.run("systemctl", "restart", BROKER, check=False).returncode
    wait_until(
        lambda: root.run("test", "-e", "/run/alarm", check=False).returncode == 0, "the alarm is raised"
    )
    assert (shown(root, BROKER, "ActiveState"), shown(root, BROKER, "ExecMainStatus")) == ("failed", "78")
    broken.unlink()
    root.run("systemctl", "start", BROKER)
    wait_until(lambda: status(root).get("ready"), "it serves again")


def test_a_machine_that_only_draws_runs_link_and_feed_alone(root: Root) -> None:
    """With only an [[upstream]] the broker exits with 0; status has the link."""
    assert (shown(root, "drawwell-link.service", "ActiveState"), shown(root, "drawwell-link.service", "Result")) == (
        "inactive", "success",
    )  # fmt: skip
    (root.path / CONF / "noise.toml").write_text('[[upstream]]\nurl = "unix:///run/elsewhere/draw.sock"\n')
    root.run("systemctl", "restart", BROKER, "drawwell-link.service", "drawwell-kernel.service")
    wait_until(lambda: shown(root, BROKER, "ActiveState") == "inactive", "the broker has nothing to do")
    assert shown(root, BROKER, "Result") == "success"
    report = status(root)
    assert (report["ready"], report["draws"]) == (False, 0)
    assert report["kernel"]["upstream"] == "/run/drawwell/link.sock"
    shows(root, "drawwell-link.service", "no broker: ")
    shows(root, "drawwell-kernel.service", "starved: ")
    assert "upstream" in root.output("runuser", "-u", "watcher", "--", "drawwell", "status")


def test_a_container_that_has_the_hosts_socket_has_no_failed_unit(tmp_path: Path) -> None:
    """With the host's broker mounted, the package starts nothing."""
    with or_skip(), container("bookworm", f"--bind-ro={tmp_path}:/run/drawwell") as booted:
        shutil.copy(package(), booted.path / "root" / "drawwell.deb")
        booted.run("apt-get", "install", "--yes", "--no-install-recommends", "/root/drawwell.deb")
        assert booted.run("systemctl", "--failed", "--plain", "--no-legend").stdout == ""
        assert booted.run("systemctl", "is-active", BROKER, check=False).stdout.strip() == "inactive"
