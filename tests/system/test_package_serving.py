"""The installed program serves through upgrades and failures."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drawwell.testing.waiting import wait_until
from lab.cache import or_skip
from lab.installed import UNIT, follow, install, pass_through, ready, shown, status
from lab.package import newer
from lab.roots import Root, container
from support.daemon import StickThread
from support.documents import ROOT, steps

pytestmark = [pytest.mark.root, pytest.mark.slow]

BROKER = "drawwell-broker.service"
QUOTA = 4 << 20
CONFIGURATION = """[[source]]
driver = "onerng"
verify_firmware = "off"
[tls]
listen = "127.0.0.1:55000"
[[consumer]]
name = "web"
user = "web"
quota = "4MiB/week"
"""
LIVES = 2**40
"""The part of a grant's number above this identifies the broker's run."""
DRAWS = """
import asyncio, json, signal, sys
from drawwell.roles.upstream import named
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import DrawwellError

async def main(via, path):
    stop, link, got, broken = asyncio.Event(), named(via, ""), [], 0
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    while not stop.is_set():
        try:
            grant = await link.draw(64, DrawClass.FULL, patience_s=1)  # short: it draws again
            got.append([grant.serial, grant.data.hex()])
        except DrawwellError as error:
            broken += 1
        await asyncio.sleep(0.02)  # short: between two looks
        with open(path, "w") as file:
            json.dump({"got": got, "broken": broken}, file)

asyncio.run(main(*sys.argv[1:]))
"""
"""Draws from a link until stopped, and records the bytes."""
ASKS = """
import json, socket, sys
peer, got = socket.socket(socket.AF_UNIX), []
peer.settimeout(300)
peer.connect(sys.argv[1])
while True:
    peer.sendall(bytes((2, 64)))
    data = peer.recv(64, socket.MSG_WAITALL)
    if len(data) < 64:
        sys.exit("hung up")
    got.append([0, data.hex()])
    with open(sys.argv[2], "w") as file:
        json.dump({"got": got, "broken": 0}, file)
"""
"""Sends requests like QEMU, over one connection; ends with it."""
ADDS = """
import asyncio
from drawwell.links.unix import UnixLink
guest = {"name": "vm", "kind": "qemu", "via": "virtio"}
asyncio.run(UnixLink("/run/drawwell/control.sock").call("guest.add", guest))
"""


@pytest.fixture(scope="module")
def stick(tmp_path_factory) -> Iterator[StickThread]:
    """Return a simulated stick with a passed-through node."""
    with StickThread(tmp_path_factory.mktemp("host") / "stick") as plugged:
        yield plugged


@pytest.fixture(scope="module")
def root(deb: Path, stick: StickThread) -> Iterator[Root]:
    """Return a container with systemd that serves user web and TLS."""
    node = stick.device.node
    with or_skip(), container("bookworm", f"--bind={node}:/dev/noise") as booted:
        pass_through(booted, node)
        booted.run("useradd", "--create-home", "web")
        folder = booted.path / "etc/drawwell/conf.d"
        folder.mkdir(parents=True)
        (folder / "here.toml").write_text(CONFIGURATION)
        install(booted, deb)
        wait_until(lambda: ready(booted), "the stick serves")
        yield booted


def start(root: Root, name: str, program: str, where: str, *options: str) -> None:
    """Run a program in the container as a unit with this name."""
    (root.path / f"{name}.py").write_text(program)
    os.chmod(root.path / f"{name}.py", 0o644)
    command = ("/usr/bin/python3", f"/{name}.py", where, f"/tmp/{name}.json")
    root.run("systemd-run", "--quiet", f"--unit={name}", *options, *command)


def so_far(root: Root, name: str) -> dict[str, Any]:
    """Return what the program has recorded."""
    try:
        return json.loads(root.output("cat", f"/tmp/{name}.json"))
    except json.JSONDecodeError:  # it is just being written
        return {"got": [], "broken": 0}


def lives(found: dict[str, Any]) -> set[int]:
    return {serial // LIVES for serial, _ in found["got"]}


def until_all_go_on(root: Root, names: tuple[str, ...]) -> None:
    """Wait until each program has received new bytes."""
    counts = {name: len(so_far(root, name)["got"]) for name in names}
    for name in names:
        wait_until(lambda name=name: len(so_far(root, name)["got"]) > counts[name] + 3, f"{name} is served")


def test_an_upgrade_while_it_serves(root: Root, deb: Path) -> None:
    """Consumers reconnect, a guest stays connected, no byte repeats."""
    token = root.run("drawwell", "-q", "consumer", "invite", "far", "--address", "127.0.0.1:55001").stdout
    root.run("drawwell", "join", "-", "--dir", "/root/far", data=token)
    root.run("python3", "-c", ADDS)
    start(root, "far", DRAWS, "/root/far")
    start(root, "web", DRAWS, "unix:///run/drawwell/draw.sock", "--uid=web")
    start(root, "vm", ASKS, "/run/drawwell/guests/vm/egd.sock")
    all_consumers = ("far", "web", "vm")
    until_all_go_on(root, all_consumers)
    with newer(deb, "9.0") as next_one:
        install(root, next_one)
    wait_until(lambda: ready(root), "it serves again")
    until_all_go_on(root, all_consumers)
    wait_until(lambda: all(len(lives(so_far(root, n))) > 1 for n in ("far", "web")), "both went over")
    assert shown(root, "vm.service", "ActiveState") == "active"
    root.run("systemctl", "stop", *all_consumers)

    found = {name: so_far(root, name) for name in all_consumers}
    assert found["far"]["broken"]
    assert found["web"]["broken"]
    blocks = [block for each in found.values() for _, block in each["got"]]
    halves = [block[at : at + 32] for block in blocks for at in range(0, len(block), 32)]
    assert len(set(halves)) == len(halves)
    serials = [serial for name in ("far", "web") for serial, _ in found[name]["got"]]
    assert len(set(serials)) == len(serials)
    web = next(each for each in status(root)["consumers"] if each["name"] == "web")
    assert QUOTA - web["quota_left_bytes"] >= 64 * len(found["web"]["got"]) > web["full_bytes"]


# ---- faults of the machine


def wait_for_text(root: Root, unit: str, text: str) -> None:
    wait_until(lambda: text in shown(root, unit, "StatusText"), f"{unit} shows {text!r}")


def test_a_full_disk_stops_what_has_a_quota(root: Root) -> None:
    """Without disk space the broker refuses with the reason, until there is."""
    state = "/var/lib/drawwell"
    root.run("systemctl", "stop", BROKER)
    root.run("mount", "-t", "tmpfs", "-o", "size=2m,mode=0700,uid=drawwell,gid=drawwell", "tmpfs", state)
    try:
        root.run("systemctl", "start", BROKER)
        wait_until(lambda: ready(root), "it serves")
        root.run("sh", "-c", f"cat /dev/zero >{state}/ballast", check=False)
        draws = ("runuser", "-u", "web", "--", "drawwell", "draw", "2KiB", "--class", "drbg", "--hex")
        wait_until(lambda: root.run(*draws, check=False).returncode, "what was reserved is used up")
        refused = root.run(*draws, check=False)
        assert refused.returncode
        assert "Free space" in refused.stdout
        assert any("cannot be written" in note for note in status(root)["notes"])
        wait_for_text(root, BROKER, "cannot be written")
        root.run("rm", f"{state}/ballast")
        root.run(*draws)
        assert not any("cannot be written" in note for note in status(root)["notes"])
    finally:
        root.run("systemctl", "stop", BROKER)
        root.run("umount", "--lazy", state)
        root.run("systemctl", "start", BROKER)


def test_nothing_is_written_below_etc(root: Root) -> None:
    """With a read-only /etc everything starts, serves and admits a consumer."""
    root.run("mount", "--bind", "/etc", "/etc")
    root.run("mount", "-o", "remount,ro,bind", "/etc")
    try:
        assert root.run("touch", "/etc/drawwell/x", check=False).returncode
        root.run("systemctl", "restart", BROKER)
        wait_until(
            lambda: root.run("systemctl", "restart", UNIT, check=False).returncode == 0, "the source starts"
        )
        wait_until(lambda: ready(root), "it serves")
        assert root.run("drawwell", "-q", "consumer", "invite", "new").stdout.strip()
        assert len(root.output("drawwell", "draw", "32", "--hex")) == 64
    finally:
        root.run("umount", "--lazy", "/etc")  # whatever reads a file there at this moment keeps it busy


def test_a_stick_that_hangs_is_said_to_and_not_started_over_and_over(root: Root, stick: StickThread) -> None:
    """A silent device is a stalled source; its unit keeps waiting."""
    stick.do("set_fault", "silent")
    root.run("systemctl", "--no-block", "restart", UNIT)
    wait_for_text(root, UNIT, "STALLED")
    assert not ready(root)
    assert shown(root, UNIT, "NRestarts") == "0"
    assert shown(root, UNIT, "ActiveState") in {"activating", "active"}
    stick.do("set_fault", "none")
    wait_until(lambda: ready(root), "it serves again")


def test_another_program_with_the_stick_open_is_named(root: Root) -> None:
    """The doctor reports that rngd has the node open, but not our unit."""
    root.run("cp", "/usr/bin/sleep", "/usr/local/sbin/rngd")
    options = ("--quiet", "--unit=rngd", "--property=StandardInput=file:/dev/noise")
    root.run("systemd-run", *options, "/usr/local/sbin/rngd", "600")
    try:
        pid = shown(root, "rngd.service", "MainPID")
        report = root.output("drawwell", "doctor")
    finally:
        root.run("systemctl", "stop", "rngd")
    assert f"process {pid} (rngd) has /dev/noise open" in report
    assert report.count("/dev/noise open") == 1
    assert "/dev/noise open" not in root.output("drawwell", "doctor")


def test_the_page_for_one_host_can_be_followed(root: Root) -> None:
    """Each command in docs/tasks/one-host.md has its described effect."""
    root.run("install", "-D", "/root/drawwell.deb", "/root/page/drawwell_1_all.deb")
    page = (ROOT / "docs/tasks/one-host.md").read_text()
    answers = [follow(root, step) for step in steps(page)]
    assert "signature  verified" in (verified := answers[5])
    assert "data       matches" in verified
