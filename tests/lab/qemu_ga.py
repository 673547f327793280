"""The QEMU guest agent for guests without a package manager."""

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
"""QEMU's arguments; the agent's socket is ``qga`` in the guest's directory."""
_AGENT: Final = "/bin/qemu-ga -d -m virtio-serial -t /tmp -f /tmp/qemu-ga.pid"
_PORT: Final = "$(grep -lx org.qemu.guest_agent.0 /sys/class/virtio-ports/*/name | cut -d/ -f5)"
INIT: Final = f'PATH=/bin:/usr/bin {_AGENT} -p "/dev/{_PORT}"\n. /agent.sh\n'


def agent_files() -> dict[str, Path]:
    """Return the agent as `files` for lab.initramfs.tiny.

    Raises:
        NoLab: the package or one of its libraries is not available.
    """
    shown = program("apt-cache", "show", "--no-all-versions", PACKAGE)
    version = re.search(r"^Version: (\S+)", shown, re.MULTILINE)
    if not version:
        raise NoLab(f"apt has no package {PACKAGE}")
    folder = kept("qemu-ga", {"version": version[1]}, _fetch)
    agent = folder / "usr/sbin/qemu-ga"
    return {"/bin/qemu-ga": agent, **libraries_of(agent)}


def _fetch(work: Path) -> None:
    program("apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", PACKAGE, cwd=work)
    archive = next(work.glob("*.deb"))
    program("dpkg-deb", "-x", archive, work)
    archive.unlink()
