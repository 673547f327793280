"""A QEMU guest that runs during a ``with`` block."""

import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from drawwell.testing.waiting import LOOK_EVERY_S
from lab.accel import accelerator
from lab.cache import NoLab
from lab.console import COMMAND_S, Console, GuestFailed, Ran
from lab.initramfs import Image
from lab.qmp import Qmp
from lab.snapshot import Snapshot

QEMU: Final = "qemu-system-x86_64"
BOOT_S: Final = 400.0
"""Time limit for booting, which usually takes 3 to 20 seconds."""
_BY_LINE_BYTES: Final = 65536
"""Larger files are passed on a disk, because a serial line carries 25 to 70 kB/s."""


class QemuGuest:
    """A guest.

    Args:
        image: The image to boot (lab.initramfs.tiny, lab.debian.debian), or a lab.snapshot to
            resume. Writes to a disk are lost, except on lab.snapshot.overlay.
        args: More arguments of QEMU; ``{run}`` in them is the guest's own directory.
        append: More of the kernel's command line.
        memory_mib: Its memory; a snapshot keeps its own.
        agent: Wait for the lab's agent, which runs the commands.
        reboots: Let the guest reboot (then `console.wait_ready` again) instead of ending.
        program: QEMU itself, with its first arguments.
        accel: ``tcg`` or ``kvm``; the default is kvm if it works here.

    `boot_s` is the time in seconds from QEMU's start to the first command.
    """

    def __init__(
        self,
        image: Image | Snapshot,
        *args: str,
        append: str = "",
        memory_mib: int | None = None,
        agent: bool = True,
        reboots: bool = False,
        program: Sequence[str] = (QEMU,),
        accel: str | None = None,
    ) -> None:
        self._snapshot = image if isinstance(image, Snapshot) else None
        self.image = image.image if isinstance(image, Snapshot) else image
        self.args = args
        self.boot_s = 0.0
        self._append = append
        self._memory_mib = memory_mib or self.image.memory_mib
        self._agent = agent
        self._reboots = reboots
        self._program = program
        self._accel = accel
        self._console: Console | None = None
        self._qmp: Qmp | None = None
        self._process: subprocess.Popen[bytes] | None = None

    # ---- start and end

    def __enter__(self) -> Self:
        self.run_dir = Path(tempfile.mkdtemp(prefix="dw-lab-"))
        try:
            self._start()
        except BaseException:
            self._show_log()
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._show_log()
        self.stop()

    def stop(self) -> None:
        """Kill QEMU and remove its directory; harmless if it has ended."""
        for channel in (self._console, self._qmp):
            if channel is not None:
                channel.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.run_dir, ignore_errors=True)

    def power_off(self, within_s: float = COMMAND_S) -> int:
        """Power the guest off like its user; return QEMU's exit status."""
        with contextlib.suppress(GuestFailed):
            # short: it ends with the guest
            self.run("poweroff" if self.image.disk else "poweroff -f", within_s=1.0)
        return self.wait_ended(within_s)

    def wait_ended(self, within_s: float = COMMAND_S) -> int:
        """Wait until QEMU has ended; return its exit status (-11 is a crash)."""
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise GuestFailed("QEMU keeps running") from None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """QEMU's process."""
        if self._process is None:
            raise GuestFailed("the guest was not started")
        return self._process

    # ---- commands

    def run(self, command: str, *, within_s: float = COMMAND_S) -> Ran:
        """Run a piece of sh in the guest (see lab.console.Console.run)."""
        return self.console.run(command, within_s=within_s)

    def check(self, command: str, *, within_s: float = COMMAND_S) -> str:
        """Run a command that must succeed; return its output."""
        return self.console.check(command, within_s=within_s)

    def until(self, command: str, *, within_s: float = COMMAND_S) -> str:
        """Repeat a command until its exit status is 0."""
        return self.console.until(command, within_s=within_s)

    def read(self, command: str, *, within_s: float = COMMAND_S) -> bytes:
        """Run a command and return its exact output."""
        return self.console.read(command, within_s=within_s)

    def put(self, path: str, data: bytes | str | Path) -> None:
        """Write a file in the guest, from the host's file if `data` is a path."""
        content = (
            data.read_bytes() if isinstance(data, Path) else data.encode() if isinstance(data, str) else data
        )
        if len(content) > _BY_LINE_BYTES and self.run("modprobe virtio_blk"):
            self._put_by_disk(path, content)
        else:
            self.console.put(path, content)

    def _put_by_disk(self, path: str, content: bytes) -> None:
        """Pass the content on a disk."""
        file = self.run_dir / "put"
        file.write_bytes(content + bytes(-len(content) % 512))
        medium = {"driver": "file", "filename": str(file)}
        self.monitor.execute("blockdev-add", {"node-name": "put", "driver": "raw", "file": medium})
        self.qmp("device_add", driver="virtio-blk-pci", drive="put", id="put", serial="lab-put")
        found = self.until("grep -lx lab-put /sys/block/*/serial").split("/")[3]
        self.check(f"head -c {len(content)} /dev/{found} > '{path}'")
        self.qmp("device_del", id="put")
        self.monitor.wait_event("DEVICE_DELETED", device="put")  # another event follows for its virtio part
        self.qmp("blockdev-del", node_name="put")

    def qmp(self, command: str, /, **arguments: Any) -> Any:
        """Run a QMP command; see lab.qmp.Qmp."""
        return self.monitor(command, **arguments)

    @property
    def console(self) -> Console:
        """The guest's shell."""
        if self._console is None:
            raise GuestFailed("the guest was not started")
        return self._console

    @property
    def monitor(self) -> Qmp:
        """QEMU's monitor."""
        if self._qmp is None:
            raise GuestFailed("the guest was not started")
        return self._qmp

    def log(self) -> str:
        """Return the kernel's console output so far, and QEMU's errors."""
        files = (self.run_dir / "console.log", self.run_dir / "qemu.log")
        return "".join(file.read_text(errors="replace") for file in files if file.exists())

    def wait_for(self, text: str, within_s: float = BOOT_S) -> None:
        """Wait until `text` is in the log.

        Raises:
            GuestFailed: it never was, or QEMU ended.
        """
        deadline = time.monotonic() + within_s
        while text not in self.log():
            ended = self.process.poll()
            if ended is not None and text not in self.log():
                raise GuestFailed(f"QEMU ended ({ended}) before the guest logged: {text}")
            if time.monotonic() > deadline:
                raise GuestFailed(f"the guest never logged: {text}")
            time.sleep(LOOK_EVERY_S)

    # ---- start-up

    def _start(self) -> None:
        began = time.monotonic()
        with (self.run_dir / "qemu.log").open("wb") as log:
            try:
                self._process = subprocess.Popen(
                    self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
            except FileNotFoundError:
                raise NoLab(f"{QEMU} is not installed") from None
        self._qmp = Qmp(self._socket("qmp"))
        self._console = Console(self._socket("agent"))
        if self._snapshot is not None:
            self._resume()
        elif self._agent:
            self._console.wait_ready(BOOT_S)
        self.boot_s = time.monotonic() - began

    def _resume(self) -> None:
        """Resume a restored guest."""
        deadline = time.monotonic() + BOOT_S
        while self.qmp("query-status")["status"] == "inmigrate":
            if time.monotonic() > deadline:
                raise GuestFailed("the snapshot was never restored")
            time.sleep(LOOK_EVERY_S)
        self.qmp("cont")
        self.check("true", within_s=BOOT_S)

    def _command(self) -> list[str]:
        image, snapshot = self.image, self._snapshot
        command = [
            *self._program, "-accel", self._accel or (snapshot.accel if snapshot else accelerator()),
            "-m", str(snapshot.memory_mib if snapshot else self._memory_mib),
            "-nodefaults", "-nographic", *([] if self._reboots else ["-no-reboot"]),
            "-chardev", "file,id=lab-log,path={run}/console.log", "-serial", "chardev:lab-log",
            "-chardev", "socket,id=lab-agent,path={run}/agent,server=on,wait=off", "-serial", "chardev:lab-agent",
            "-qmp", "unix:{run}/qmp,server=on,wait=off",
            "-kernel", str(image.kernel.image), "-initrd", str(image.initrd),
            "-append", f"console=ttyS0 panic=-1 no_timer_check {image.append} {self._append}".strip(),
        ]  # fmt: skip
        disk = snapshot.disk if snapshot else image.disk
        if disk is not None:
            writes = disk.suffix == ".qcow2" and snapshot is None
            kind = "qcow2" if disk.suffix == ".qcow2" else "raw"
            drive = f"file={disk},format={kind},if=virtio,snapshot={'off' if writes else 'on'}"
            command += ["-drive", drive]
        if snapshot is not None:
            command += [*snapshot.args, "-incoming", f"exec:cat '{snapshot.state}'"]
        return [each.replace("{run}", str(self.run_dir)) for each in (*command, *self.args)]

    def _socket(self, name: str) -> Path:
        path = self.run_dir / name
        deadline = time.monotonic() + COMMAND_S
        while not path.exists():
            if self.process.poll() is not None:
                raise GuestFailed(f"QEMU did not start: {self.log()[-2000:]}")
            if time.monotonic() > deadline:
                raise GuestFailed(f"QEMU never listened at {path}")
            time.sleep(LOOK_EVERY_S)
        return path

    def _show_log(self) -> None:
        """Print the end of the log, to explain a failed test."""
        ended = self._process.poll() if self._process else None
        sys.stderr.write(f"---- guest (QEMU {'runs' if ended is None else f'ended: {ended}'}) ----\n")
        sys.stderr.write(f"{self.log()[-6000:]}\n----\n")
