"""A libvirt of a test's own: its daemons started by hand, with directories and a network that nobody else sees."""

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
"""In namespaces of its own. Without control groups it leaves none behind; where /dev/kvm opens for libvirt and gives no
KVM, libvirt asks every QEMU for what it can at each command, for 20 s."""
_ACCOUNTS: Final = {
    "passwd": "libvirt-qemu:x:64055:64055::/:/usr/sbin/nologin\n",
    "group": "libvirt-qemu:x:64055:\nkvm:x:64054:\n",
}
"""libvirt does not start where the account that it was built for is missing; the package that makes it also starts
libvirt for the whole machine, which is no business of a test."""
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
    """libvirt from ``with`` to its end; `uri` is where it answers.

    Raises:
        NoLab: not root, or it is not installed or does not start.
    """

    def __enter__(self) -> Self:
        """Start it."""
        for each in ("libvirtd", "virtlogd", "virsh"):
            if not shutil.which(each, path=f"{os.environ['PATH']}:/usr/sbin"):
                raise NoLab(f"{each} is not installed")
        if os.geteuid() != 0:
            raise NoLab("a libvirt of one's own needs root")
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
        """End it and every domain."""
        self.stop()

    def stop(self) -> None:
        """End the domains, the daemons, and what they left."""
        for machine in (self.root / "run/qemu").glob("*.pid"):
            _end(machine, signal.SIGKILL)
        for daemon in ("libvirtd", "virtlogd"):
            _end(self.root / f"{daemon}.pid", signal.SIGTERM)
        for directory in reversed(self._made):
            with suppress(OSError):
                directory.rmdir()
        shutil.rmtree(self.root, ignore_errors=True)

    def virsh(self, *words: str, text: str = "", check: bool = True) -> str:
        """Run virsh and return what it prints.

        Raises:
            AssertionError: it failed, unless `check` is false.
        """
        done = subprocess.run(
            ["virsh", "-q", "-c", self.uri, *words],
            input=text, capture_output=True, text=True, check=False, timeout=DEADLINE_S,
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"virsh {' '.join(words)}: {done.stderr}")
        return done.stdout

    def define(self, name: str, image: Image, *, devices: str = "", machine: str = "pc") -> None:
        """Make a domain that boots an image of the lab; its second serial line is the lab's agent."""
        kernel, initrd = (self.root / f"{image.digest}.{each}" for each in ("kernel", "initrd"))
        if not initrd.exists():  # libvirt gives them to QEMU's user: not the cache's own
            shutil.copy(image.kernel.image, kernel)
            shutil.copy(image.initrd, initrd)
        words = {"digest": image.digest, "append": image.append, "memory": image.memory_mib}
        described, settled = (
            _DOMAIN.format(name=name, devices=devices, machine=machine, root=self.root, **words),
            "",
        )
        while described != settled:  # it sorts the controllers that it added, a little each time
            self.virsh("define", "/dev/stdin", text=described)
            described, settled = self.describe(name), described

    def start(self, name: str) -> Console:
        """Start a domain, and return its shell when that is there."""
        self.virsh("start", name)
        console = self.console(name)
        console.wait_ready(BOOT_S)
        return console

    def console(self, name: str) -> Console:
        """Return the shell of a domain that runs."""
        return Console(self.root / f"{name}.agent")

    def describe(self, name: str, *, kept: bool = True) -> str:
        """Return its XML, as libvirt keeps it or as it runs."""
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
        )  # one that is there at the start: it looks for others then
        (self.hooks / "none").chmod(0o755)
        (settings / "qemu").mkdir()
        (settings / "qemu.conf").write_text("namespaces = []\nremember_owner = 0\n")
        (settings / "libvirtd.conf").write_text('auth_unix_rw = "none"\nunix_sock_rw_perms = "0700"\n')

    def _start(self) -> None:
        pairs = " ".join(f"{name}:{path}" for name, path in _DIRECTORIES.items())
        script = _START.format(pairs=pairs, root=self.root)
        words = ["unshare", "--mount", "--net", "--ipc", "--propagation", "private", "sh", "-c", script]
        log = self.root / "start.log"
        with log.open("wb") as output:
            started = subprocess.run(
                words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=DEADLINE_S, check=False,
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
    """Return an image of the kernel that has USB and generation ids, with the QEMU guest agent and perl.

    Raises:
        NoLab: something for it cannot be had.
    """
    perl = Path("/usr/bin/perl")
    libraries = re.findall(r"(/\S+) \(0x", program("ldd", perl))
    files = {"/bin/perl": perl, **{path: Path(path).resolve() for path in libraries}}
    return tiny("full", modules=(*MODULES, *modules), files={**agent_files(), **files}, init=INIT)


def _end(pid_file: Path, number: signal.Signals) -> None:
    """End the process of a pid file, and wait until it is gone."""
    with suppress(OSError, ValueError):
        pid = int(pid_file.read_text())
        os.kill(pid, number)
        deadline = time.monotonic() + DEADLINE_S
        while Path(f"/proc/{pid}").exists() and not _is_dead(pid) and time.monotonic() < deadline:
            time.sleep(LOOK_EVERY_S)


def _is_dead(pid: int) -> bool:
    """Is it a zombie that nobody collects?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
