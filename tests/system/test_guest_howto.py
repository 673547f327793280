"""The how-to's KVM and LXC chapters, run in guests made by its tools."""

import json
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from drawwell.guests.libvirt import Libvirt
from drawwell.guests.lxc import Lxc
from drawwell.guests.model import Attachment, Guest, GuestKind
from drawwell.testing.waiting import DEADLINE_S, wait_until
from lab.borrowed import no_cgroup_left
from lab.cache import or_skip
from lab.guest import BOOT_S
from lab.libvirtd import Libvirtd, agent_image
from lab.roots import minbase
from support.daemon import command
from support.documents import ROOT

pytestmark = [pytest.mark.long, pytest.mark.root]
PAGE = ROOT / "docs/guests/how-to-2017.md"
TEMPLATE = """#!/bin/sh
for each in "$@"; do case $each in --path=*) path=${{each#*=}};; --rootfs=*) rootfs=${{each#*=}};; esac; done
cp -a {root}/. "$rootfs"
printf '%s\\n' "lxc.rootfs.path = dir:$rootfs" "lxc.include = /usr/share/lxc/config/common.conf" \
    "lxc.arch = linux64" >> "$path/config"
"""
"""A template like lxc-debian: a debootstrap tree and LXC's common configuration."""


@pytest.fixture
def bridge() -> Iterator[None]:
    """Create the bridge of lxc-net, which /etc/lxc/default.conf names."""
    if Path("/sys/class/net/lxcbr0").exists():
        yield
        return
    subprocess.run(["ip", "link", "add", "lxcbr0", "type", "bridge"], check=True)
    subprocess.run(["ip", "link", "set", "lxcbr0", "up"], check=True)
    yield
    subprocess.run(["ip", "link", "delete", "lxcbr0"], check=True)


def chapter(title: str) -> list[str]:
    """Return the commands of one chapter, each once."""
    section = PAGE.read_text().partition(f"## {title}\n")[2].partition("\n## ")[0]
    return list(dict.fromkeys(re.findall(r"`(drawwell (?:guest|status)[^`]*)`", section)))


def type_line(config: Path, line: str, *options: str) -> str:
    """Run a command from the page; return its output."""
    done = command(*line.split()[1:], *options, config=config)
    assert done.returncode == 0, (line, done.stdout, done.stderr)
    return done.stdout


def judged(verified: str) -> Counter[str]:
    """Count the verdicts; a generation ID takes effect at the next start."""
    return Counter(each["verdict"] for each in json.loads(verified)["findings"])


@pytest.mark.skipif(not shutil.which("virt-install"), reason="virt-install is not installed")
def test_the_kvm_chapters_hold_for_a_machine_of_virt_install(
    broker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine has an <rng>, redirected USB and a SPICE channel."""
    with or_skip(), Libvirtd() as libvirt:
        monkeypatch.setenv("LIBVIRT_DEFAULT_URI", libvirt.uri)
        virt_install(libvirt)
        before = libvirt.describe("web01")
        assert "<backend model='random'>/dev/urandom</backend>" in before
        assert before.count("<redirdev bus='usb' type='spicevmc'>") == 2
        shell = libvirt.console("web01")
        shell.wait_ready(BOOT_S)
        shell.until("test -s /tmp/qemu-ga.pid")

        status, apply, verify, remove = chapter("KVM, virtio-rng")
        type_line(broker, status)
        assert "<rng> (random, /dev/urandom)" in type_line(broker, apply)
        assert judged(type_line(broker, verify, "--json")) == {"holds": 10, "unknown": 1}
        assert shell.check("cat /sys/class/misc/hw_random/rng_available").split() == ["virtio_rng.0"]
        type_line(broker, remove)
        assert libvirt.describe("web01") == before

        assert "--via usb-virtual" in PAGE.read_text()
        type_line(broker, "drawwell guest apply libvirt web01 --via usb-virtual")
        assert set(judged(type_line(broker, verify, "--json"))) == {"holds"}
        type_line(broker, remove)
        shell.until("test ! -e /dev/ttyACM0")
        assert libvirt.describe("web01") == before
        usb = Guest(GuestKind.LIBVIRT, "web01", Attachment.USB)
        assert "1d50" in Libvirt(libvirt.uri).plan(usb).pieces[0].text
        shell.close()


def virt_install(libvirt: Libvirtd) -> None:
    """Let virt-install start web01 with its default devices."""
    image = agent_image("xhci_pci", "cdc_acm")
    kernel, initrd = libvirt.root / "kernel", libvirt.root / "initrd"
    shutil.copy(image.kernel.image, kernel)
    shutil.copy(image.initrd, initrd)
    boot = f"kernel={kernel},initrd={initrd},kernel_args=console=ttyS0 panic=-1 {image.append}"
    options = {
        "--connect": libvirt.uri, "--virt-type": "qemu", "--name": "web01", "--memory": "256",
        "--osinfo": "debian11", "--disk": f"path={libvirt.root}/disk.qcow2,size=0.1", "--network": "none",
        "--boot": boot,
    }  # fmt: skip
    serials = (f"file,path={libvirt.root}/web01.log", f"unix,mode=bind,path={libvirt.root}/web01.agent")
    arguments = [each for pair in options.items() for each in pair]
    arguments += [each for serial in serials for each in ("--serial", serial)]
    done = subprocess.run(
        ["virt-install", *arguments, "--import", "--noautoconsole"],
        capture_output=True, text=True, check=False, timeout=DEADLINE_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(not shutil.which("lxc-create"), reason="LXC is not installed")
@pytest.mark.usefixtures("bridge")
def test_the_lxc_chapter_holds_for_a_container_of_lxc_create(broker: Path, folder: Path) -> None:
    """The container is a Debian with systemd from lxc-create."""
    with or_skip():
        root = minbase(packages=("systemd", "systemd-sysv", "perl-base"))
    path = folder / "lxc"
    path.mkdir(mode=0o711)
    template = folder / "lxc-tree"
    template.write_text(TEMPLATE.format(root=root))
    template.chmod(0o755)
    lxc("lxc-create", path, "-t", str(template))
    config = path / "moonbase" / "config"
    own = config.read_bytes()
    assert b"lxc.net.0.link = lxcbr0" in own
    apply, verify = chapter("LXC")
    assert "for the stick itself use `--via device`" in PAGE.read_text()
    where = ("--connect", str(path))
    try:
        with no_cgroup_left("lxc.*"):
            type_line(broker, apply, *where)
            lxc("lxc-start", path)
            wait_until(lambda: runs(path), "the container's systemd is up")
            assert set(judged(type_line(broker, verify, *where, "--json"))) == {"holds"}
            type_line(broker, apply, *where, "--remove")
            assert config.read_bytes() == own
            lxc("lxc-stop", path, "-k")
            # the stick itself is not plugged in; the container starts without it
            type_line(broker, f"{apply} --via device", *where)
            lxc("lxc-start", path)
            wait_until(lambda: runs(path), "the container's systemd is up")
            type_line(broker, apply, *where, "--remove")
            assert config.read_bytes() == own
    finally:
        lxc("lxc-stop", path, "-k", check=False)


def lxc(program: str, path: Path, *options: str, check: bool = True) -> None:
    """Run one of LXC's programs for moonbase."""
    arguments = [program, "-P", str(path), "-n", "moonbase", *options]
    done = subprocess.run(
        arguments, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=DEADLINE_S
    )
    assert done.returncode == 0 or not check, done.stdout + done.stderr


def runs(path: Path) -> bool:
    """Return whether the container's systemd is up."""
    inside = Lxc(str(path)).inside(Guest(GuestKind.LXC, "moonbase", Attachment.SOCKET))
    assert inside
    state = inside.run(["systemctl", "is-system-running"]).output.strip()
    return state in {b"running", b"degraded"}
