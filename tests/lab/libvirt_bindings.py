"""Debian's python3-libvirt for the Python that runs the tests.

The environment of that Python has no system packages.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from lab.cache import NoLab

_SYSTEM: Final = Path("/usr/lib/python3/dist-packages")


def bindings(folder: Path) -> Path:
    """Fill a folder with links to only the bindings, and return it.

    It is meant for sys.path or PYTHONPATH.

    Raises:
        NoLab: the bindings are not installed, or are for another version of Python.
    """
    for pattern in ("libvirt*.py", "libvirtmod*.so"):
        for path in _SYSTEM.glob(pattern):
            (folder / path.name).symlink_to(path)
    command = [sys.executable, "-c", "import libvirt, libvirt_qemu"]
    env = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoLab(f"python3-libvirt cannot be loaded: {done.stderr.strip().splitlines()[-1]}")
    return folder
