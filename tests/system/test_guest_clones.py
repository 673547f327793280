"""Machines restored twice from one state: equal or different bytes."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drawwell.guests.inside.reseed import _PERL, _PYTHON, reseed
from drawwell.guests.libvirt import Libvirt
from drawwell.guests.model import Attachment, Guest, GuestCommandResult, GuestKind, GuestVerdict, Inside
from drawwell.guests.program import run
from drawwell.host.kernel import kernel_facts
from drawwell.testing.waiting import DEADLINE_S
from lab.cache import or_skip
from lab.console import Console
from lab.guest import QemuGuest
from lab.initramfs import tiny
from lab.libvirtd import Libvirtd, agent_image
from lab.snapshot import snapshot
from support.daemon import command

pytestmark = [pytest.mark.slow, pytest.mark.root]
needs_libvirt = pytest.mark.skipif(not shutil.which("virsh"), reason="libvirt is not installed")
RNG = "<rng model='virtio'><backend model='builtin'/></rng>"
PLAIN, NUMBERED = "plain", "numbered"
STATES, COPIES = 3, 4
"""Kernels reseed by themselves, and interrupts vary: of this many copies of some state two are
alike, or none ever is."""


@pytest.fixture(scope="module")
def libvirt() -> Iterator[Libvirtd]:
    """Run libvirt with two virtio-rng domains, one with a generation ID."""
    with or_skip(), Libvirtd() as daemon:
        image = agent_image()
        daemon.define(PLAIN, image, devices=RNG)
        daemon.define(NUMBERED, image, devices=RNG)
        numbered = daemon.describe(NUMBERED).replace("<memory ", "<genid/><memory ", 1)
        daemon.virsh("define", "/dev/stdin", text=numbered)
        yield daemon


@pytest.fixture(scope="module")
def saved(libvirt: Libvirtd) -> Callable[..., Path]:
    """Save a domain's state right after seeding, once per name and number."""

    def save(name: str, number: int = 0) -> Path:
        state = libvirt.root / f"{name}{number}.state"
        if not state.exists():
            shell = libvirt.start(name)
            shell.until("dmesg | grep -q 'crng init done'")
            shell.until("test -s /tmp/qemu-ga.pid")
            shell.check(
                'perl -e \'open my $d, ">", "/dev/random"; ioctl($d, 0x5207, 0) or die\' && head -c 16 /dev/urandom'
            )
            shell.close()
            libvirt.virsh("save", name, str(state))
        return state

    return save


def restored(
    libvirt: Libvirtd, name: str, state: Path, do: Callable[[], object] = lambda: None
) -> tuple[str, str]:
    """Return a restored machine's bytes after `do`, and its log; end it."""
    libvirt.virsh("restore", str(state))
    try:
        do()
        shell: Console = libvirt.console(name)
        given = shell.check("head -c 16 /dev/urandom | od -A n -t x1")
        log = shell.check("dmesg | tail -n 20")
        shell.close()
    finally:
        libvirt.virsh("destroy", name)
    return given, log


@needs_libvirt
def test_two_copies_give_the_same_bytes(libvirt: Libvirtd, saved: Callable[..., Path]) -> None:
    """With only virtio-rng, two machines from one state give equal bytes."""

    def alike(state: Path) -> bool:
        given = set[str]()
        for count in range(COPIES):
            given.add(restored(libvirt, PLAIN, state)[0])
            if len(given) <= count:
                return True
        return False

    assert any(alike(saved(PLAIN, number)) for number in range(STATES))


@needs_libvirt
def test_reseeded_copies_differ(libvirt: Libvirtd, saved: Callable[..., Path]) -> None:
    """Reseeded by the agent, two machines from one state give other bytes."""
    state = saved(PLAIN)
    software = Libvirt(libvirt.uri, hooks="")

    def with_bytes(fresh: bytes) -> str:
        def do() -> None:
            inside = software.inside(Guest(GuestKind.LIBVIRT, PLAIN, Attachment.BUILTIN))
            assert inside is not None
            assert [each.verdict for each in reseed(inside, fresh, 8.0)] == [
                GuestVerdict.HOLDS,
                GuestVerdict.HOLDS,
            ]

        return restored(libvirt, PLAIN, state, do)[0]

    assert with_bytes(bytes(64)) != with_bytes(b"\1" * 64)


@needs_libvirt
def test_a_new_generation_id_makes_copies_differ(libvirt: Libvirtd, saved: Callable[..., Path]) -> None:
    """libvirt gives each restored machine a new ID, and its kernel reseeds."""
    state = saved(NUMBERED)
    (one, log), (other, _) = (restored(libvirt, NUMBERED, state) for _ in range(2))
    assert one != other
    assert "virtual machine fork" in log


class _Here(Inside):
    """The host, with one interpreter."""

    def __init__(self, argv: list[str]) -> None:
        self._argv = argv

    def run(
        self, argv: list[str], *, stdin: bytes = b"", timeout_s: float = DEADLINE_S
    ) -> GuestCommandResult:
        del argv
        return run(self._argv, stdin=stdin, timeout_s=timeout_s)


@pytest.mark.skipif(not kernel_facts().may_feed, reason="needs CAP_SYS_ADMIN in the first user namespace")
@pytest.mark.parametrize(
    "argv", [["python3", "-c", _PYTHON, "0"], ["perl", "-e", _PERL, "0"]], ids=["python3", "perl"]
)
def test_either_interpreter_reseeds_a_kernel(argv: list[str]) -> None:
    """With python3 or perl, the host's kernel gets the bytes and reseeds."""
    findings = reseed(_Here(argv), bytes(range(64)), 0.0)
    assert [each.verdict for each in findings] == [GuestVerdict.HOLDS, GuestVerdict.HOLDS], findings


@pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="QEMU is not installed")
def test_copies_of_a_qemu_machine_differ(folder: Path) -> None:
    """A new generation ID reseeds each copy; audit reports a missing one."""
    numbered = ("-device", "vmgenid,guid=auto")
    with or_skip():
        state = snapshot(
            tiny("full"), *numbered, prepare=lambda guest: guest.until("dmesg | grep 'crng init'")
        )
    given = set()
    for _ in range(2):
        with QemuGuest(state) as machine:
            machine.until("dmesg | grep 'virtual machine fork'")
            given.add(machine.check("head -c 16 /dev/urandom | od -A n -t x1"))
    assert len(given) == 2
    name = f"unnumbered{os.getpid()}"
    with QemuGuest(tiny("cloud"), "-name", name, agent=False):
        done = command("guest", "audit", "qemu", "--json", config=folder / "none.toml")
        found = next(each for each in json.loads(done.stdout)["guests"] if each["name"] == name)
    (finding,) = [each for each in found["findings"] if each["what"] == "the machine has a VM generation ID"]
    assert (finding["verdict"], "guest reseed" in finding["hint"]) == ("fails", True)
