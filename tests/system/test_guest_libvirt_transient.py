"""Domains of libvirt that are not stored."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from drawwell.testing.waiting import wait_until
from lab.cache import or_skip
from lab.console import Console
from lab.guest import BOOT_S
from lab.libvirtd import Libvirtd, agent_image
from system.test_guest_libvirt import OWN_RNG, guest

NAME = "web01"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.skipif(not shutil.which("virsh"), reason="libvirt is not installed"),
]


@pytest.fixture(scope="module")
def libvirt() -> Iterator[Libvirtd]:
    """Run libvirt without domains."""
    with or_skip(), Libvirtd() as daemon:
        yield daemon


@contextmanager
def transient(libvirt: Libvirtd, devices: str = "") -> Iterator[None]:
    """Start a domain with these devices, without storing it."""
    libvirt.define(NAME, agent_image(), devices=devices)
    description = libvirt.describe(NAME)
    libvirt.virsh("undefine", NAME)
    libvirt.virsh("create", "/dev/stdin", text=description)
    try:
        yield
    finally:
        libvirt.virsh("destroy", NAME)
    wait_until(lambda: NAME not in libvirt.virsh("list", "--all", "--name"), "the transient domain is gone")


def shell(libvirt: Libvirtd) -> Console:
    """Return a shell in the domain, when it has started."""
    console = libvirt.console(NAME)
    console.wait_ready(BOOT_S)
    return console


def test_a_transient_domain_is_never_defined(libvirt: Libvirtd, broker: Path) -> None:
    """A transient domain gets its device while it runs, and is not stored."""
    with transient(libvirt):
        applied = guest(broker, libvirt, "apply", NAME)
        assert (applied["status"], len(applied["changes"])) == (0, 2), applied
        assert "<rng" in libvirt.describe(NAME, kept=False)
        shell(libvirt).close()
        assert guest(broker, libvirt, "apply", NAME, "--remove")["status"] == 0


def test_a_transient_domain_keeps_its_own_generator(libvirt: Libvirtd, broker: Path) -> None:
    """Plan and apply report it; with the agent, ours becomes current."""
    with transient(libvirt, OWN_RNG):
        applied = guest(broker, libvirt, "apply", NAME, "--via", "builtin")
        assert "restored by --remove" not in str(applied["plan"]["notes"])
        assert "then echo the last virtio_rng.N in it > rng_current" in str(applied["plan"]["notes"])
        keeps = f"domain {NAME} keeps <rng> (random, /dev/urandom), which its kernel reads"
        assert keeps in str(applied["changes"]), applied

        console = shell(libvirt)
        wait_until(lambda: "state='connected'" in libvirt.describe(NAME, kept=False), "the agent runs")
        applied = guest(broker, libvirt, "apply", NAME)
        assert keeps in str(applied["changes"]), applied
        assert "made the guest's kernel read virtio_rng.1" in str(applied["changes"]), applied
        assert console.check("cat /sys/class/misc/hw_random/rng_current").strip() == "virtio_rng.1"
        console.close()
        assert guest(broker, libvirt, "apply", NAME, "--remove")["status"] == 0
        assert "/dev/urandom" in libvirt.describe(NAME, kept=False)
