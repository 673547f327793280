"""A libvirt session: an unprivileged daemon, as for desktop users."""

import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final, Self

from drawwell.testing.waiting import DEADLINE_S, LOOK_EVERY_S
from lab.cache import NoLab
from lab.libvirtd import Libvirtd

USER: Final = 1
"""The account daemon, which libvirt looks up."""


class Session(Libvirtd):
    """The libvirt session of user daemon; other users can reach `uri`.

    Raises:
        NoLab: not root, or it is not installed or does not start.
    """

    def __enter__(self) -> Self:
        """Start libvirt."""
        if os.geteuid() != 0:
            raise NoLab("another user's libvirt needs root")
        self.root = Path(tempfile.mkdtemp(prefix="dw-ls-"))
        self.root.chmod(0o711)
        self.uri = f"qemu+unix:///session?socket={self.root}/run/libvirt/libvirt-sock"
        self._made = []
        settings = self.root / "config" / "libvirt"
        settings.mkdir(parents=True)
        (settings / "qemu.conf").write_text('stdio_handler = "file"\n')
        for name in ("run", "cache", "data"):
            (self.root / name).mkdir(mode=0o711)
        for each in (self.root, *self.root.rglob("*")):
            os.chown(each, USER, USER)
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def _start(self) -> None:
        homes = {"RUNTIME_DIR": "run", "CONFIG_HOME": "config", "CACHE_HOME": "cache", "DATA_HOME": "data"}
        environment = {f"XDG_{name}": f"{self.root}/{folder}" for name, folder in homes.items()}
        arguments = [
            "setpriv",
            f"--reuid={USER}",
            f"--regid={USER}",
            "--clear-groups",
            "libvirtd",
            "-d",
            "-p",
        ]
        path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
        started = subprocess.run(
            [*arguments, f"{self.root}/libvirtd.pid"], capture_output=True, text=True, check=False,
            timeout=DEADLINE_S, cwd="/", env={"PATH": path, "HOME": str(self.root), **environment},
        )  # fmt: skip
        if started.returncode:
            raise NoLab(f"libvirtd does not start: {started.stderr[-500:]}")
        deadline = time.monotonic() + DEADLINE_S
        while not (self.root / "run/libvirt/libvirt-sock").exists():
            if time.monotonic() > deadline:
                raise NoLab("libvirtd does not listen")
            time.sleep(LOOK_EVERY_S)

    @property
    def machines(self) -> Path:
        """The directory of the machines' pid files."""
        return self.root / "run/libvirt/qemu/run"
