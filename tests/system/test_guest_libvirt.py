"""``drawwell guest`` with a real libvirt: domains are changed, kept ones and running ones, and left as they were."""

import contextlib
import json
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drawwell.cli.guest.arguments import account_name
from drawwell.errors import GuestUnavailable
from drawwell.guests.libvirt import Libvirt, connect
from drawwell.guests.model import ATTACHMENTS, Attachment, Guest, GuestKind
from drawwell.testing.waiting import wait_until
from lab.cache import or_skip
from lab.console import Console
from lab.guest import BOOT_S
from lab.libvirt_bindings import bindings
from lab.libvirtd import Libvirtd, agent_image
from support.daemon import Daemon, StickThread, command
from support.documents import ROOT, steps

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.skipif(not shutil.which("virsh"), reason="libvirt is not installed"),
]
USB = ("xhci_pci", "cdc_acm")
RUNS, OFF, EXPRESS = "web01", "web02", "web03"
OWN_RNG = "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"
"""As virt-install adds it by itself."""
OWN_BUILTIN = "<rng model='virtio'><rate bytes='64' period='1000'/><backend model='builtin'/></rng>"


@pytest.fixture(scope="module")
def libvirt() -> Iterator[Libvirtd]:
    """A libvirt with three domains, the first of which runs."""
    with or_skip(), Libvirtd() as daemon:
        image = agent_image(*USB)
        daemon.define(RUNS, image, devices=f"<controller type='usb' model='qemu-xhci'/>{OWN_RNG}")
        daemon.define(OFF, image)
        daemon.define(EXPRESS, image, machine="q35", devices=OWN_BUILTIN)
        daemon.start(RUNS).close()
        yield daemon


@pytest.fixture
def shell(libvirt: Libvirtd) -> Iterator[Console]:
    """A shell in the domain that runs."""
    console = libvirt.console(RUNS)
    yield console
    console.close()


@pytest.fixture
def config(folder: Path) -> Iterator[Path]:
    """The configuration of a broker with one stick that is plugged in, in a directory that libvirt's QEMU may pass."""
    folder.chmod(0o711)
    config = folder / "drawwell.toml"
    config.write_text(
        f'[broker]\nname = "well"\nstate_dir = "{folder}/state"\nrun_dir = "{folder}/run"\n'
        f'[[source]]\nname = "stick"\npath = "{folder}/stick"\nverify_firmware = "off"\n'
    )
    with StickThread(folder / "stick", rate=200_000.0):
        yield config


@pytest.fixture
def broker(config: Path) -> Iterator[Path]:
    """The same with a broker that runs."""
    with serving(config, "log"):
        yield config


@contextlib.contextmanager
def serving(config: Path, log: str) -> Iterator[None]:
    """A broker until it is killed."""
    with Daemon("run", config=config, log=config.parent / log) as running:
        running.until_it_says("healthy")
        yield


@pytest.fixture
def way(request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """How libvirt is called, here and in commands: by the Python bindings, or without them by virsh."""
    if request.param == "virsh":
        monkeypatch.setitem(sys.modules, "libvirt", None)
        return "Virsh"
    place = folder / "bindings"
    place.mkdir()
    with or_skip():
        monkeypatch.syspath_prepend(bindings(place))
    monkeypatch.setenv("PYTHONPATH", str(place), prepend=os.pathsep)
    return "Bindings"


both_ways = pytest.mark.parametrize("way", ["virsh", "bindings"], indirect=True)


def guest(config: Path, libvirt: Libvirtd, verb: str, name: str, *words: str) -> dict[str, Any]:
    """What ``drawwell guest`` says as JSON; `status` is its exit code."""
    done = command("guest", verb, "libvirt", name, "--connect", libvirt.uri, *words, "--json", config=config)
    said = done.stdout or done.stderr
    return {"status": done.returncode, **(json.loads(said) if said.startswith("{") else {"said": said})}


def verdicts(answer: dict[str, Any]) -> dict[str, str]:
    return {each["what"]: each["verdict"] for each in answer["findings"]}


def generators(shell: Console) -> str:
    """The hardware generators that the guest's kernel has."""
    return shell.check("cat /sys/class/misc/hw_random/rng_available").strip()


@both_ways
@pytest.mark.usefixtures("way")
def test_a_domain_that_runs_is_given_its_bytes_and_let_go_again(
    libvirt: Libvirtd, broker: Path, shell: Console
) -> None:
    """Its own generator makes room; it reads what the broker granted; removed, all is as before, and that is back."""
    before = libvirt.describe(RUNS)
    applied = guest(broker, libvirt, "apply", RUNS, "--rate", "64KiB/s")
    assert (applied["status"], len(applied["changes"])) == (0, 4), applied
    assert "in the place of <rng> (random, /dev/urandom)" in str(applied["changes"]), applied
    assert "put back by --remove" in str(applied["plan"]["notes"])
    assert "genid" in libvirt.describe(RUNS)
    assert guest(broker, libvirt, "apply", RUNS, "--rate", "64KiB/s")["changes"] == []
    assert len(generators(shell).split()) == 1

    verified = guest(broker, libvirt, "verify", RUNS)
    assert verified["looked"] == "from inside"
    found = verdicts(verified)
    assert found["what it reads is what this broker granted it"] == "holds", verified
    assert found["the bytes pass the FIPS 140-2 tests"] in {"holds", "unknown"}, verified

    reseeded = command("guest", "reseed", RUNS, "--connect", libvirt.uri, "--json", config=broker)
    assert set(verdicts(json.loads(reseeded.stdout)).values()) == {"holds"}, reseeded

    removed = guest(broker, libvirt, "apply", RUNS, "--remove")
    assert (removed["status"], len(removed["changes"])) == (0, 4), removed
    assert libvirt.describe(RUNS) == before
    assert "/dev/urandom" in libvirt.describe(RUNS, kept=False)
    shell.until("grep virtio_rng /sys/class/misc/hw_random/rng_available")
    assert guest(broker, libvirt, "apply", RUNS, "--remove")["changes"] == []


def test_a_virtual_onerng_is_plugged_into_a_domain_that_runs(
    libvirt: Libvirtd, broker: Path, shell: Console
) -> None:
    """The guest's own driver makes a tty of it, which gives bytes that the ledger says it was granted."""
    before = libvirt.describe(RUNS)
    applied = guest(broker, libvirt, "apply", RUNS, "--via", "usb-virtual")
    assert applied["status"] == 0, applied
    shell.until("test -c /dev/ttyACM0")
    verified = guest(broker, libvirt, "verify", RUNS)
    found = verdicts(verified)
    assert found["it has a OneRNG"] == "holds", verified
    assert found["what it reads is what this broker granted it"] == "holds", verified

    assert guest(broker, libvirt, "apply", RUNS, "--remove")["status"] == 0
    shell.until("test ! -e /dev/ttyACM0")
    assert libvirt.describe(RUNS) == before


def test_another_way_in_takes_the_place_of_the_first(libvirt: Libvirtd, broker: Path) -> None:
    """Applied again by another way, the domain has that one and no longer the other."""
    before = libvirt.describe(OFF)
    assert guest(broker, libvirt, "apply", OFF)["status"] == 0
    assert guest(broker, libvirt, "apply", OFF, "--via", "usb-virtual")["status"] == 0
    assert ("<rng" in libvirt.describe(OFF), "<redirdev" in libvirt.describe(OFF)) == (False, True)
    assert guest(broker, libvirt, "apply", OFF, "--remove")["status"] == 0
    assert libvirt.describe(OFF) == before


def test_the_stick_is_let_go_of_and_taken_back(libvirt: Libvirtd, broker: Path) -> None:
    """Given away whole, it is read by no source of ours; taken from the guest again, its source is healthy again."""

    def source() -> dict[str, Any]:
        (found,) = json.loads(command("status", "--json", config=broker).stdout)["sources"]
        return {"paused": found["paused"], "state": found["state"]}

    given = guest(broker, libvirt, "apply", OFF, "--via", "usb")
    assert (given["status"], source()["paused"]) == (0, True), given
    assert guest(broker, libvirt, "apply", OFF, "--via", "usb")["changes"] == []
    assert guest(broker, libvirt, "apply", OFF, "--remove")["status"] == 0
    wait_until(lambda: source() == {"paused": False, "state": "healthy"}, "the source goes on")


@pytest.mark.parametrize(("name", "way"), [(OFF, "virsh"), (EXPRESS, "bindings")], indirect=["way"])
@pytest.mark.parametrize("via", ATTACHMENTS[GuestKind.LIBVIRT])
def test_what_libvirt_keeps_is_as_it_was(libvirt: Libvirtd, name: str, way: str, via: Attachment) -> None:
    """Named by its UUID, a domain reads byte for byte as before, its own generator included."""
    software, before = Libvirt(libvirt.uri), libvirt.describe(name)
    uuid = libvirt.virsh("domuuid", name).strip()
    bytes_for = Guest(GuestKind.LIBVIRT, name, via, domain=uuid)
    assert len(software.apply(bytes_for)) == 1
    given = libvirt.describe(name)
    assert given.count("<rng ") <= 1
    assert software.apply(bytes_for) == []
    assert libvirt.describe(name) == given != before
    untold = replace(bytes_for, via=Attachment.VIRTIO)  # as without --via, if the broker does not know it
    assert len(software.remove(untold)) == 1
    assert libvirt.describe(name) == before
    assert software.remove(bytes_for) == []


def test_the_hook_is_run_when_the_domain_starts(libvirt: Libvirtd, folder: Path) -> None:
    """At a start and at a restore alike, with the words that it waits for; it goes when the guest is removed."""
    folder.chmod(0o711)
    bytes_for = Guest(GuestKind.LIBVIRT, OFF, Attachment.VIRTIO, run_dir=str(folder))
    software = Libvirt(libvirt.uri, hooks=str(libvirt.hooks))
    said = libvirt.root / "said"
    with socket.socket(socket.AF_UNIX) as door:
        os.makedirs(os.path.dirname(bytes_for.socket))
        door.bind(bytes_for.socket)
        door.listen()
        os.chmod(bytes_for.socket, 0o777)
        software.apply(bytes_for)
        hook = libvirt.hooks / f"drawwell-{OFF}"
        hook.write_text(hook.read_text().replace("exec setsid -f drawwell", f"exec echo >{said}"))
        libvirt.virsh("start", OFF)
        said.unlink()
        libvirt.virsh("save", OFF, str(libvirt.root / "state"))
        libvirt.virsh("restore", str(libvirt.root / "state"))
        libvirt.virsh("destroy", OFF)
    assert said.exists()
    software.remove(bytes_for)
    assert not hook.exists()


@both_ways
@pytest.mark.usefixtures("way")
def test_faults_are_told_with_what_to_do(libvirt: Libvirtd, broker: Path, folder: Path) -> None:
    """No such domain, one that is shut off, and no libvirt are told apart."""
    absent = guest(broker, libvirt, "apply", "nobody")
    assert (absent["status"], "no domain 'nobody'" in str(absent)) == (69, True), absent
    off = guest(broker, libvirt, "verify", OFF)
    assert (off["status"], "virsh start web02" in str(off)) == (69, True), off
    gone = command(
        "guest", "audit", "libvirt", "--connect", f"qemu+unix:///system?socket={folder}/no", config=broker
    )
    assert (gone.returncode, "failed to connect" in gone.stderr.lower()) == (69, True), gone


@both_ways
def test_a_refusal_comes_with_a_hint(libvirt: Libvirtd, way: str, folder: Path) -> None:
    """A domain that is shut off and a socket that is not there are told apart."""
    folder.chmod(0o711)
    connection = connect(libvirt.uri)
    assert type(connection).__name__ == way
    uuids = {known.name: known.uuid for known in connection.domains()}
    egd = f"<backend model='egd' type='unix'><source mode='connect' path='{folder}/x.sock'/></backend>"
    rng = f"<rng model='virtio'>{egd}</rng>"
    for name, hint in ((OFF, "virsh"), (RUNS, "broker")):
        with pytest.raises(GuestUnavailable) as refused:
            connection.attach(uuids[name], rng)
        assert hint in str(refused.value.hint), refused.value


def test_a_running_machine_that_lost_its_broker_is_plugged_in_anew(libvirt: Libvirtd, config: Path) -> None:
    """Where nobody keeps its connection, a domain that was plugged while it ran stays away; apply plugs it in anew."""
    words = ("libvirt", RUNS, "--connect", libvirt.uri)
    with serving(config, "first"):
        assert command("guest", "apply", *words, config=config).returncode == 0
    with serving(config, "second"):
        looked = command("guest", "verify", *words, "--timeout", "1s", config=config)  # short: it never comes
        assert (looked.returncode, "plugs it in anew" in looked.stdout) == (1, True), looked
        applied = command("guest", "apply", *words, config=config)
        assert (applied.returncode, "unplugged <rng> (egd, " in applied.stdout) == (0, True), applied
        assert command("guest", "verify", *words, config=config).returncode == 0
        assert command("guest", "apply", *words, "--remove", config=config).returncode == 0


def test_a_machine_that_runs_as_another_is_named(libvirt: Libvirtd, broker: Path) -> None:
    """A running domain said to be root's is turned away, and apply and verify say who came; told so, it is let in."""

    def entry() -> dict[str, Any]:
        (found,) = json.loads(command("guest", "list", "--json", config=broker).stdout)["guests"]
        return dict(found)

    words = ("libvirt", RUNS, "--connect", libvirt.uri)
    refused = command("guest", "apply", *words, "--user", "root", config=broker)
    runs_as = account_name(entry()["turned_away_uid"])
    assert (refused.returncode, "plugged virtio" in refused.stdout) == (69, True), refused
    assert f"--user {runs_as}" in refused.stderr
    looked = command("guest", "verify", *words, "--timeout", "1s", config=broker)  # short: it never comes
    assert (looked.returncode, "was turned away" in looked.stdout) == (1, True), looked

    assert command("guest", "apply", *words, "--user", runs_as, config=broker).returncode == 0
    wait_until(lambda: entry()["connected"] == 1, "it came again")
    assert entry()["turned_away_uid"] is None
    assert command("guest", "apply", *words, "--remove", config=broker).returncode == 0


def test_a_domain_that_is_not_kept_is_plugged_and_never_defined(libvirt: Libvirtd, broker: Path) -> None:
    """A transient domain gets its device while it runs, and is gone when it ends."""
    description = libvirt.describe(OFF)
    libvirt.virsh("undefine", OFF)
    libvirt.virsh("create", "/dev/stdin", text=description)
    try:
        applied = guest(broker, libvirt, "apply", OFF)
        assert (applied["status"], len(applied["changes"])) == (0, 2), applied
        assert "<rng" in libvirt.describe(OFF, kept=False)
        console = libvirt.console(OFF)
        console.wait_ready(BOOT_S)
        console.close()
        assert guest(broker, libvirt, "apply", OFF, "--remove")["status"] == 0
    finally:
        libvirt.virsh("destroy", OFF)
    wait_until(lambda: OFF not in libvirt.virsh("list", "--all", "--name"), "the transient domain is gone")
    libvirt.virsh("define", "/dev/stdin", text=description)


def test_the_page_for_virtual_machines_can_be_followed(
    libvirt: Libvirtd, broker: Path, shell: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each line of the page works, and the domain is as before at its end."""
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", libvirt.uri)
    before = libvirt.describe(RUNS)
    for _file, line in steps((ROOT / "docs/tasks/virtual-machines.md").read_text()):
        done = command(*line.split()[1:], config=broker)
        expected = int(" audit " in line)  # the other domains have nothing yet
        assert done.returncode == expected, (line, done.stdout, done.stderr)
    assert libvirt.describe(RUNS) == before
    shell.until("grep virtio_rng /sys/class/misc/hw_random/rng_available")
