"""The QEMU guest agent for guests that have no package manager: Debian's program with the libraries that it needs."""

import re
from pathlib import Path
from typing import Final

from lab.cache import NoLab, kept, program
from lab.host_programs import libraries_of

PACKAGE: Final = "qemu-guest-agent"
MODULES: Final = ("virtio_console",)
DEVICE: Final = (
    "-device", "virtio-serial-pci",
    "-chardev", "socket,id=qga,path={run}/qga,server=on,wait=off",
    "-device", "virtserialport,chardev=qga,name=org.qemu.guest_agent.0",
)  # fmt: skip
"""QEMU's arguments; the agent answers at ``qga`` in the guest's directory."""
_AGENT: Final = "/bin/qemu-ga -d -m virtio-serial -t /tmp -f /tmp/qemu-ga.pid"
INIT: Final = f'PATH=/bin:/usr/bin {_AGENT} -p "$(ls -d /dev/vport*)"\n. /agent.sh\n'


def agent_files() -> dict[str, Path]:
    """Return what lab.initramfs.tiny takes as `files`.

    Raises:
        NoLab: the package, or a library of it, cannot be had.
    """
    shown = program("apt-cache", "show", "--no-all-versions", PACKAGE)
    version = re.search(r"^Version: (\S+)", shown, re.MULTILINE)
    if not version:
        raise NoLab(f"apt knows no package {PACKAGE}")
    folder = kept("qemu-ga", {"version": version[1]}, _fetch)
    agent = folder / "usr/sbin/qemu-ga"
    return {"/bin/qemu-ga": agent, **libraries_of(agent)}


def _fetch(work: Path) -> None:
    program("apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", PACKAGE, cwd=work)
    archive = next(work.glob("*.deb"))
    program("dpkg-deb", "-x", archive, work)
    archive.unlink()
