"""``drawwell guest`` with a real libvirt: stored and running domains."""

import json
import os
import re
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
from drawwell.guests.cloud_init import image
from drawwell.guests.libvirt import Libvirt, connect
from drawwell.guests.model import ATTACHMENTS, Attachment, Guest, GuestKind
from drawwell.testing.waiting import wait_until
from lab.cache import or_skip
from lab.console import Console
from lab.libvirt_bindings import bindings
from lab.libvirtd import Libvirtd, agent_image
from support.daemon import command, healthy_broker
from support.documents import ROOT, steps

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.skipif(not shutil.which("virsh"), reason="libvirt is not installed"),
]
USB = ("xhci_pci", "cdc_acm")
RUNS, OFF, EXPRESS = "web01", "web02", "web03"
OWN_RNG = "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"
"""The device that virt-install adds by default."""
OWN_BUILTIN = "<rng model='virtio'><rate bytes='64' period='1000'/><backend model='builtin'/></rng>"
OWN_STICK = (
    "<hostdev mode='subsystem' type='usb' managed='yes'>"
    "<source startupPolicy='optional'><vendor id='0x1d50'/><product id='0x6086'/></source></hostdev>"
)
"""An owner's own passthrough of the real stick."""


@pytest.fixture(scope="module")
def libvirt() -> Iterator[Libvirtd]:
    """Run libvirt with three domains, the first of them running."""
    with or_skip(), Libvirtd() as daemon:
        image = agent_image(*USB)
        daemon.define(RUNS, image, devices=f"<controller type='usb' model='qemu-xhci'/>{OWN_RNG}")
        daemon.define(OFF, image)
        daemon.define(EXPRESS, image, machine="q35", devices=OWN_BUILTIN)
        daemon.start(RUNS).close()
        yield daemon


@pytest.fixture
def shell(libvirt: Libvirtd) -> Iterator[Console]:
    """Return a shell in the running domain."""
    console = libvirt.console(RUNS)
    yield console
    console.close()


@pytest.fixture
def way(request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Choose how libvirt is called: by its Python bindings or by virsh."""
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


def guest(config: Path, libvirt: Libvirtd, verb: str, name: str, *arguments: str) -> dict[str, Any]:
    """Return ``drawwell guest`` as JSON; `status` is its exit code."""
    done = command(
        "guest", verb, "libvirt", name, "--connect", libvirt.uri, *arguments, "--json", config=config
    )
    said = done.stdout or done.stderr
    return {"status": done.returncode, **(json.loads(said) if said.startswith("{") else {"said": said})}


def verdicts(answer: dict[str, Any]) -> dict[str, str]:
    return {each["what"]: each["verdict"] for each in answer["findings"]}


def generators(shell: Console) -> str:
    """Return the hardware generators of the guest's kernel."""
    return shell.check("cat /sys/class/misc/hw_random/rng_available").strip()


@both_ways
@pytest.mark.usefixtures("way")
def test_a_running_domain_is_added_and_removed(libvirt: Libvirtd, broker: Path, shell: Console) -> None:
    """apply replaces the generator, and granted bytes arrive; --remove works."""
    before = libvirt.describe(RUNS)
    applied = guest(broker, libvirt, "apply", RUNS, "--rate", "64KiB/s")
    assert (applied["status"], len(applied["changes"])) == (0, 4), applied
    assert "instead of <rng> (random, /dev/urandom)" in str(applied["changes"]), applied
    assert "restored by --remove" in str(applied["plan"]["notes"])
    assert "genid" in libvirt.describe(RUNS)
    assert guest(broker, libvirt, "apply", RUNS, "--rate", "64KiB/s")["changes"] == []
    assert len(generators(shell).split()) == 1

    verified = guest(broker, libvirt, "verify", RUNS)
    assert verified["looked"] == "from inside"
    found = verdicts(verified)
    assert found["the guest reads bytes from this broker"] == "holds", verified
    assert found["the bytes pass the FIPS 140-2 tests"] in {"holds", "unknown"}, verified

    reseeded = command("guest", "reseed", RUNS, "--connect", libvirt.uri, "--json", config=broker)
    assert set(verdicts(json.loads(reseeded.stdout)).values()) == {"holds"}, reseeded

    removed = guest(broker, libvirt, "apply", RUNS, "--remove")
    assert (removed["status"], len(removed["changes"])) == (0, 4), removed
    assert libvirt.describe(RUNS) == before
    assert "/dev/urandom" in libvirt.describe(RUNS, kept=False)
    shell.until("grep virtio_rng /sys/class/misc/hw_random/rng_available")
    assert guest(broker, libvirt, "apply", RUNS, "--remove")["changes"] == []


def test_a_virtual_onerng_is_plugged_into_a_running_domain(
    libvirt: Libvirtd, broker: Path, shell: Console
) -> None:
    """It replaces virtio; the guest reads the broker's bytes at a tty."""
    before = libvirt.describe(RUNS)
    assert guest(broker, libvirt, "apply", RUNS)["status"] == 0
    applied = guest(broker, libvirt, "apply", RUNS, "--via", "usb-virtual")
    assert "unplugged <rng> (egd, " in str(applied["changes"]), applied
    verified = guest(broker, libvirt, "verify", RUNS)  # it waits for the tty
    found = verdicts(verified)
    assert found["the guest has a OneRNG"] == "holds", verified
    assert found["the guest reads bytes from this broker"] == "holds", verified

    assert guest(broker, libvirt, "apply", RUNS, "--remove")["status"] == 0
    shell.until("test ! -e /dev/ttyACM0")
    assert libvirt.describe(RUNS) == before


def test_another_attachment_replaces_the_first(libvirt: Libvirtd, broker: Path) -> None:
    """After apply with another --via, the domain has only the new device."""
    before = libvirt.describe(OFF)
    assert guest(broker, libvirt, "apply", OFF)["status"] == 0
    assert guest(broker, libvirt, "apply", OFF, "--via", "usb-virtual")["status"] == 0
    assert ("<rng" in libvirt.describe(OFF), "<redirdev" in libvirt.describe(OFF)) == (False, True)
    assert guest(broker, libvirt, "apply", OFF, "--remove")["status"] == 0
    assert libvirt.describe(OFF) == before


def test_a_domain_and_its_clone_are_seeded_apart(libvirt: Libvirtd, broker: Path) -> None:
    """Each has its own seed disk; a disk with cloud-init data is refused."""
    if not shutil.which("xorriso"):
        pytest.skip("xorriso is not installed")
    before, clone = libvirt.describe(OFF), "web04"
    applied = guest(broker, libvirt, "apply", OFF, "--seed")
    assert "a seed for its first boot" in str(applied["changes"]), applied
    assert guest(broker, libvirt, "apply", OFF)["changes"] == []
    assert (first := broker.parent / "run/guests" / OFF / "seed.iso").exists()
    assert str(first) in libvirt.describe(OFF)

    copied = re.sub(r"<uuid>.*</uuid>|<mac .*/>", "", libvirt.describe(OFF)).replace(OFF, clone, 1)
    libvirt.virsh("define", "/dev/stdin", text=copied)
    try:
        seeded = guest(broker, libvirt, "apply", clone, "--seed")
        assert seeded["status"] == 0, seeded
        second = broker.parent / "run/guests" / clone / "seed.iso"
        assert (str(first) in libvirt.describe(clone), str(second) in libvirt.describe(clone)) == (
            False,
            True,
        )
        assert first.read_bytes() != second.read_bytes()
        assert guest(broker, libvirt, "apply", clone, "--remove")["status"] == 0
        assert not second.exists()
    finally:
        libvirt.virsh("undefine", clone)
    assert guest(broker, libvirt, "apply", OFF, "--no-seed")["status"] == 0
    assert (first.exists(), str(first) in libvirt.describe(OFF)) == (False, False)

    own = broker.parent / "own.iso"
    own.write_bytes(image("other", b"#cloud-config\n", str(broker.parent)))
    disk = f"<disk type='file'><source file='{own}'/><target dev='vdb' bus='virtio'/></disk></devices>"
    libvirt.virsh("define", "/dev/stdin", text=libvirt.describe(OFF).replace("</devices>", disk))
    refused = guest(broker, libvirt, "apply", OFF, "--seed")
    assert (refused["status"], "already has a cloud-init disk" in str(refused)) == (64, True), refused
    libvirt.virsh("detach-disk", OFF, "vdb", "--config")
    assert guest(broker, libvirt, "apply", OFF, "--remove")["status"] == 0
    assert libvirt.describe(OFF) == before


def test_the_stick_is_released_and_taken_back(libvirt: Libvirtd, broker: Path) -> None:
    """While passed through it has no source; afterwards its source is healthy."""

    def source() -> dict[str, Any]:
        (found,) = json.loads(command("status", "--json", config=broker).stdout)["sources"]
        return {"paused": found["paused"], "state": found["state"]}

    given = guest(broker, libvirt, "apply", OFF, "--via", "usb")
    assert (given["status"], source()["paused"]) == (0, True), given
    assert guest(broker, libvirt, "apply", OFF, "--via", "usb")["changes"] == []
    assert guest(broker, libvirt, "apply", OFF, "--remove")["status"] == 0
    wait_until(lambda: source() == {"paused": False, "state": "healthy"}, "the source resumes")


def test_an_owners_own_stick_is_left_alone(libvirt: Libvirtd, broker: Path) -> None:
    """--via usb is refused; applying and removing virtio keeps the stick."""
    before = libvirt.describe(OFF)
    libvirt.virsh("define", "/dev/stdin", text=before.replace("</devices>", f"{OWN_STICK}</devices>"))
    own = libvirt.describe(OFF)
    try:
        refused = guest(broker, libvirt, "apply", OFF, "--via", "usb")
        assert (refused["status"], "already has a <hostdev>" in str(refused)) == (64, True), refused
        assert guest(broker, libvirt, "apply", OFF)["status"] == 0
        assert guest(broker, libvirt, "apply", OFF, "--remove")["status"] == 0
        assert libvirt.describe(OFF) == own
    finally:
        libvirt.virsh("define", "/dev/stdin", text=before)


@pytest.mark.parametrize(("name", "way"), [(OFF, "virsh"), (EXPRESS, "bindings")], indirect=["way"])
@pytest.mark.parametrize("via", ATTACHMENTS[GuestKind.LIBVIRT])
def test_the_stored_domain_is_restored(libvirt: Libvirtd, name: str, way: str, via: Attachment) -> None:
    """Given by UUID, a domain is restored byte for byte, with its generator."""
    software, before = Libvirt(libvirt.uri), libvirt.describe(name)
    uuid = libvirt.virsh("domuuid", name).strip()
    bytes_for = Guest(GuestKind.LIBVIRT, name, via, domain=uuid)
    assert len(software.apply(bytes_for)) == 1
    given = libvirt.describe(name)
    assert given.count("<rng ") <= 1
    assert software.apply(bytes_for) == []
    assert libvirt.describe(name) == given != before
    default = replace(bytes_for, via=Attachment.VIRTIO)  # the default --via, if the broker has no such guest
    assert len(software.remove(default)) == 1
    assert libvirt.describe(name) == before
    assert software.remove(bytes_for) == []


@both_ways
@pytest.mark.usefixtures("way")
def test_a_domain_with_blanks_and_umlauts_is_named(libvirt: Libvirtd, broker: Path) -> None:
    """--domain accepts its name or UUID; --remove restores the domain."""
    name = "Wäb 4 (neu)"
    libvirt.define(name, agent_image(*USB))
    before, uuid = libvirt.describe(name), libvirt.virsh("domuuid", name).strip()
    try:
        for domain in (name, uuid):
            applied = guest(broker, libvirt, "apply", "web04", "--domain", domain)
            assert (applied["status"], f"the domain {name} has virtio" in str(applied["changes"])) == (
                0,
                True,
            ), applied
            assert guest(broker, libvirt, "apply", "web04", "--domain", domain)["changes"] == []
            listed = json.loads(
                command("guest", "audit", "libvirt", "--connect", libvirt.uri, "--json", config=broker).stdout
            )
            assert "egd.sock" in next(each["backend"] for each in listed["guests"] if each["name"] == name)
            assert guest(broker, libvirt, "apply", "web04", "--domain", domain, "--remove")["status"] == 0
            assert libvirt.describe(name) == before
    finally:
        libvirt.virsh("undefine", name)


def test_the_hook_is_run_when_the_domain_starts(libvirt: Libvirtd, folder: Path) -> None:
    """The hook gets its arguments at start and restore; --remove deletes it."""
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
def test_each_fault_has_its_hint(libvirt: Libvirtd, broker: Path, folder: Path) -> None:
    """The hints for missing and stopped domains and for no libvirt differ."""
    absent = guest(broker, libvirt, "apply", "absent")
    assert (absent["status"], "no domain 'absent'" in str(absent)) == (69, True), absent
    off = guest(broker, libvirt, "verify", OFF)
    assert (off["status"], "virsh start web02" in str(off)) == (69, True), off
    gone = command(
        "guest", "audit", "libvirt", "--connect", f"qemu+unix:///system?socket={folder}/no", config=broker
    )
    assert (gone.returncode, "failed to connect" in gone.stderr.lower()) == (69, True), gone


@both_ways
def test_a_refusal_comes_with_a_hint(libvirt: Libvirtd, way: str, folder: Path) -> None:
    """A stopped domain is reported differently from a missing socket."""
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


def test_a_running_machine_that_lost_its_broker_is_plugged_in_again(libvirt: Libvirtd, config: Path) -> None:
    """Unsupervised, a device plugged in at runtime is lost; apply replaces it."""
    where = ("libvirt", RUNS, "--connect", libvirt.uri)
    with healthy_broker(config, "first"):
        assert command("guest", "apply", *where, config=config).returncode == 0
    with healthy_broker(config, "second"):
        looked = command("guest", "verify", *where, "--timeout", "1s", config=config)  # short: it never comes
        assert (looked.returncode, "reconnect it" in looked.stdout) == (1, True), looked
        applied = command("guest", "apply", *where, config=config)
        assert (applied.returncode, "unplugged <rng> (egd, " in applied.stdout) == (0, True), applied
        assert command("guest", "verify", *where, config=config).returncode == 0
        assert command("guest", "apply", *where, "--remove", config=config).returncode == 0


def test_a_machine_that_runs_as_another_is_named(libvirt: Libvirtd, broker: Path) -> None:
    """A domain of another user is refused and reported; --user admits it."""

    def entry() -> dict[str, Any]:
        (found,) = json.loads(command("guest", "list", "--json", config=broker).stdout)["guests"]
        return dict(found)

    where = ("libvirt", RUNS, "--connect", libvirt.uri)
    refused = command("guest", "apply", *where, "--user", "root", config=broker)
    runs_as = account_name(entry()["turned_away_uid"])
    assert (refused.returncode, "plugged virtio" in refused.stdout) == (69, True), refused
    assert f"--user {runs_as}" in refused.stderr
    looked = command("guest", "verify", *where, "--timeout", "1s", config=broker)  # short: it never comes
    assert (looked.returncode, "was refused" in looked.stdout) == (1, True), looked

    assert command("guest", "apply", *where, "--user", runs_as, config=broker).returncode == 0
    wait_until(lambda: entry()["connected"] == 1, "it reconnected")
    assert entry()["turned_away_uid"] is None
    assert command("guest", "apply", *where, "--remove", config=broker).returncode == 0


def test_the_page_for_virtual_machines_can_be_followed(
    libvirt: Libvirtd, broker: Path, shell: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command on the page works, and restores the domain at its end."""
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", libvirt.uri)
    before = libvirt.describe(RUNS)
    for _file, line in steps((ROOT / "docs/tasks/virtual-machines.md").read_text()):
        done = command(*line.split()[1:], config=broker)
        expected = int(" audit " in line)  # the other domains have no device yet
        assert done.returncode == expected, (line, done.stdout, done.stderr)
    assert libvirt.describe(RUNS) == before
    shell.until("grep virtio_rng /sys/class/misc/hw_random/rng_available")
