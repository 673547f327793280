"""A Debian machine with systemd and udev: an ext4 image."""

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lab.cache import NoLab, kept, program
from lab.initramfs import AGENT, Image, tiny
from lab.kernels import Kernel, kernel

PACKAGES: Final = (
    *("systemd", "systemd-sysv", "udev", "dbus", "apt", "kmod", "usbutils", "iproute2", "procps"),
    *("python3", "python3-cryptography", "python3-h11"),
)
MODULES: Final = (
    *("xhci_pci", "uhci_hcd", "ehci_pci", "cdc_acm", "ftdi_sio", "dummy_hcd", "libcomposite", "usb_f_acm"),
    *("virtio_rng", "virtio_net", "virtio_console", "virtio_balloon", "virtio_blk", "9p", "9pnet_virtio"),
    *(
        "vsock",
        "vmw_vsock_virtio_transport",
        "veth",
        "bridge",
        "br_netfilter",
        "nf_tables",
        "tun",
        "sch_netem",
    ),
    *("overlay", "fuse", "autofs4", "loop", "squashfs", "crc32c_generic", "binfmt_misc"),
)
SIZE: Final = "1500M"
_SWITCH: Final = """mkdir -p /new
mount -t ext4 -o rw /dev/vda /new && umount /dev/pts && for f in proc sys dev; do mount --move /$f /new/$f; done
exec switch_root /new /sbin/init
"""
_UNIT: Final = """[Unit]
Description=the lab's agent
After=multi-user.target
[Service]
Type=idle
Environment=HOME=/root
ExecStart=/bin/sh /usr/local/sbin/lab-agent
Restart=always
KillMode=process
[Install]
WantedBy=multi-user.target
"""
_APT: Final = (
    '--aptopt=APT::Install-Recommends "false"',
    '--aptopt=Acquire::Languages "none"',
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
)


def debian(
    suite: str = "bookworm", *, packages: Sequence[str] = (), hook: str = "", modules: Sequence[str] = ()
) -> Image:
    """Return a Debian machine; it boots in about 15 to 20 seconds.

    Args:
        suite: ``bookworm`` or ``trixie``; the kernel is the host suite's full one.
        packages: More packages; recommendations are not installed.
        hook: A piece of sh to run in the new root (chroot) after installation.
        modules: Kernel modules to load before the root is mounted.

    Raises:
        NoLab: a part of it is not available.
    """
    used = kernel("full")
    wanted = sorted({*PACKAGES, *packages})
    recipe = {
        "suite": suite, "packages": wanted, "hook": hook, "kernel": [used.release, used.version],
        "modules": MODULES, "size": SIZE, "agent": AGENT.read_text(), "unit": _UNIT, "apt": _APT,
    }  # fmt: skip
    folder = kept("debian", recipe, lambda work: _build(work, used, suite, wanted, hook))
    boots = tiny("full", modules=("virtio_blk", "ext4", "crc32c_generic", *modules), init=_SWITCH)
    digest = hashlib.sha256(f"{folder.name} {boots.digest}".encode()).hexdigest()
    append = "root=/dev/vda rw systemd.show_status=0 loglevel=3"
    return Image(used, boots.initrd, digest, append, folder / "root.ext4", memory_mib=512)


def _build(work: Path, used: Kernel, suite: str, packages: Sequence[str], hook: str) -> None:
    if os.geteuid() != 0:
        raise NoLab("a Debian root file system needs root")
    root = work / "root"
    program(
        "mmdebstrap", "--variant=minbase", f"--include={','.join(packages)}", *_APT, suite, root, _archive()
    )
    _put_modules(used, root)
    _put_agent(root)
    if hook:
        program("chroot", root, "sh", "-ec", hook)
    image = work / "root.ext4"
    program("truncate", "-s", SIZE, image)
    program("mkfs.ext4", "-q", "-d", root, image)
    shutil.rmtree(root)


def _archive() -> str:
    """Return the archive that the host uses."""
    origin = ("Created-By: Packages", "Origin: Debian", "Label: Debian")
    known = program("apt-get", "indextargets", "--format", "$(REPO_URI)", *origin).split()
    if not known:
        raise NoLab("apt has no list of a Debian archive")
    return known[0]


def _put_modules(used: Kernel, root: Path) -> None:
    target = root / "lib/modules" / used.release
    target.mkdir(parents=True)
    for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        shutil.copy(used.modules / name, target)
    for file in used.files_of(MODULES):
        copy = target / file.relative_to(used.modules)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    program("depmod", "-b", root, used.release)


def _put_agent(root: Path) -> None:
    shutil.copy(AGENT, root / "usr/local/sbin/lab-agent")
    units = root / "etc/systemd/system"
    (units / "lab-agent.service").write_text(_UNIT)
    wants = units / "multi-user.target.wants"
    wants.mkdir(exist_ok=True)
    (wants / "lab-agent.service").symlink_to("../lab-agent.service")
    (units / "serial-getty@ttyS0.service").symlink_to("/dev/null")
    (root / "etc/hostname").write_text("guest\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost guest\n")
    (root / "etc/fstab").write_text("/dev/vda / ext4 defaults 0 0\n")
    (root / "etc/machine-id").write_text("")
