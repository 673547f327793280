"""A private libvirt for a test, in its own directories and network."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from drawwell.testing.waiting import DEADLINE_S, LOOK_EVERY_S
from lab.cache import NoLab, program
from lab.console import Console
from lab.guest import BOOT_S
from lab.initramfs import Image, tiny
from lab.qemu_ga import INIT, MODULES, agent_files

_DIRECTORIES: Final = {
    "etc": "/etc/libvirt", "run": "/run/libvirt", "lib": "/var/lib/libvirt", "cache": "/var/cache/libvirt",
    "log": "/var/log/libvirt",
}  # fmt: skip
_START: Final = """
set -e
for pair in {pairs} passwd:/etc/passwd group:/etc/group; do mount --bind "{root}/${{pair%%:*}}" "${{pair#*:}}"; done
[ ! -e /dev/kvm ] || mount --bind "{root}/nokvm" /dev/kvm
umount -R -l /sys/fs/cgroup
virtlogd -d -p "{root}/virtlogd.pid"
exec libvirtd -d -p "{root}/libvirtd.pid"
"""
"""Runs in namespaces. Without control groups it leaves none behind. Where /dev/kvm opens but
KVM does not work, libvirt probes every QEMU at each command, for 20 s."""
_ACCOUNTS: Final = {
    "passwd": "libvirt-qemu:x:64055:64055::/:/usr/sbin/nologin\n",
    "group": "libvirt-qemu:x:64055:\nkvm:x:64054:\n",
}
"""libvirt does not start without the account it was built for; the package that makes it would
also start libvirt for the whole host."""
_DOMAIN: Final = """<domain type='qemu'>
  <name>{name}</name><memory unit='MiB'>{memory}</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='{machine}'>hvm</type>
    <kernel>{root}/{digest}.kernel</kernel><initrd>{root}/{digest}.initrd</initrd>
    <cmdline>console=ttyS0 panic=-1 {append}</cmdline></os>
  <features><acpi/></features>
  <on_poweroff>destroy</on_poweroff><on_reboot>destroy</on_reboot><on_crash>destroy</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <serial type='file'><source path='{root}/{name}.log'/></serial>
    <serial type='unix'><source mode='bind' path='{root}/{name}.agent'/></serial>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <memballoon model='none'/>
    {devices}
  </devices>
</domain>
"""


class Libvirtd:
    """libvirt during the ``with`` block; `uri` is its address.

    Raises:
        NoLab: not root, or it is not installed or does not start.
    """

    def __enter__(self) -> Self:
        """Start libvirt."""
        for each in ("libvirtd", "virtlogd", "virsh"):
            if not shutil.which(each, path=f"{os.environ['PATH']}:/usr/sbin"):
                raise NoLab(f"{each} is not installed")
        if os.geteuid() != 0:
            raise NoLab("a private libvirt needs root")
        self.root = Path(tempfile.mkdtemp(prefix="dw-lv-"))
        self.root.chmod(0o755)
        self.uri = f"qemu+unix:///system?socket={self.root}/run/libvirt-sock"
        self.hooks = self.root / "etc/hooks/qemu.d"
        self._made = [Path(each) for each in _DIRECTORIES.values() if not os.path.isdir(each)]
        try:
            self._prepare()
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End libvirt and every domain."""
        self.stop()

    def stop(self) -> None:
        """End the domains and the daemons, and remove their files."""
        for machine in self.machines.glob("*.pid"):
            _end(machine, signal.SIGKILL)
        for daemon in ("libvirtd", "virtlogd"):
            _end(self.root / f"{daemon}.pid", signal.SIGTERM)
        for directory in reversed(self._made):
            with suppress(OSError):
                directory.rmdir()
        shutil.rmtree(self.root, ignore_errors=True)

    @property
    def machines(self) -> Path:
        """The directory of the machines' pid files."""
        return self.root / "run/qemu"

    def virsh(self, *arguments: str, text: str = "", check: bool = True) -> str:
        """Run virsh and return its output.

        Raises:
            AssertionError: it failed, unless `check` is false.
        """
        done = subprocess.run(
            ["virsh", "-q", "-c", self.uri, *arguments],
            input=text, capture_output=True, text=True, check=False, timeout=DEADLINE_S,
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"virsh {' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def define(self, name: str, image: Image, *, devices: str = "", machine: str = "pc") -> None:
        """Define a domain for a lab image, with the agent on a serial line."""
        kernel, initrd = (self.root / f"{image.digest}.{each}" for each in ("kernel", "initrd"))
        if not initrd.exists():  # libvirt changes the owner: keep the cache's files
            shutil.copy(image.kernel.image, kernel)
            shutil.copy(image.initrd, initrd)
        values = {"digest": image.digest, "append": image.append, "memory": image.memory_mib}
        described, settled = (
            _DOMAIN.format(name=name, devices=devices, machine=machine, root=self.root, **values),
            "",
        )
        while described != settled:  # libvirt sorts its controllers in several rounds
            self.virsh("define", "/dev/stdin", text=described)
            described, settled = self.describe(name), described

    def start(self, name: str) -> Console:
        """Start a domain; return its shell when it is ready."""
        self.virsh("start", name)
        console = self.console(name)
        console.wait_ready(BOOT_S)
        return console

    def console(self, name: str) -> Console:
        """Return the shell of a running domain."""
        return Console(self.root / f"{name}.agent")

    def describe(self, name: str, *, kept: bool = True) -> str:
        """Return the domain's XML, stored or running."""
        return self.virsh("dumpxml", *(["--inactive"] if kept else []), name)

    def _prepare(self) -> None:
        for name in _DIRECTORIES:
            (self.root / name).mkdir()
        for directory in self._made:
            directory.mkdir(parents=True)
        (self.root / "nokvm").touch(mode=0)
        for name, lines in _ACCOUNTS.items():
            there = Path(f"/etc/{name}").read_text()
            missing = [
                line for line in lines.splitlines(keepends=True) if f"{line.split(':')[0]}:" not in there
            ]
            (self.root / name).write_text(there + "".join(missing))
        settings = self.root / "etc"
        self.hooks.mkdir(parents=True)
        (self.hooks / "none").write_text(
            "#!/bin/sh\n"
        )  # an existing one: libvirt looks for others only at its start
        (self.hooks / "none").chmod(0o755)
        (settings / "qemu").mkdir()
        (settings / "qemu.conf").write_text("namespaces = []\nremember_owner = 0\n")
        (settings / "libvirtd.conf").write_text('auth_unix_rw = "none"\nunix_sock_rw_perms = "0700"\n')

    def _start(self) -> None:
        pairs = " ".join(f"{name}:{path}" for name, path in _DIRECTORIES.items())
        script = _START.format(pairs=pairs, root=self.root)
        command = ["unshare", "--mount", "--net", "--ipc", "--propagation", "private", "sh", "-c", script]
        log = self.root / "start.log"
        with log.open("wb") as output:
            started = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=DEADLINE_S, check=False,
                env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
            )  # fmt: skip
        if started.returncode:
            raise NoLab(f"libvirtd does not start: {log.read_text()[-500:]}")
        deadline = time.monotonic() + DEADLINE_S
        while subprocess.run(
            ["virsh", "-q", "-c", self.uri, "list"], capture_output=True, check=False
        ).returncode:
            if time.monotonic() > deadline:
                raise NoLab(f"libvirtd does not answer: {log.read_text()[-500:]}")
            time.sleep(LOOK_EVERY_S)


def agent_image(*modules: str) -> Image:
    """Return an image with USB, generation IDs, the guest agent and perl.

    Raises:
        NoLab: a part of it is not available.
    """
    perl = Path("/usr/bin/perl")
    libraries = re.findall(r"(/\S+) \(0x", program("ldd", perl))
    files = {"/bin/perl": perl, **{path: Path(path).resolve() for path in libraries}}
    return tiny("full", modules=(*MODULES, *modules), files={**agent_files(), **files}, init=INIT)


def _end(pid_file: Path, number: signal.Signals) -> None:
    """End the process of a pid file, and wait for its end."""
    with suppress(OSError, ValueError):
        pid = int(pid_file.read_text())
        os.kill(pid, number)
        deadline = time.monotonic() + DEADLINE_S
        while Path(f"/proc/{pid}").exists() and not _is_dead(pid) and time.monotonic() < deadline:
            time.sleep(LOOK_EVERY_S)


def _is_dead(pid: int) -> bool:
    """Return whether a process is an uncollected zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
