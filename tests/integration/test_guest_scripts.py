"""Scripts that run inside a guest, with each available program."""

import contextlib
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from drawwell.guests.inside.scripts import CONVERSE
from drawwell.testing.waiting import DEADLINE_S


@pytest.mark.parametrize("interpreter", ["python3", "perl", "socat"])
def test_each_program_in_a_guest_converses(folder: Path, interpreter: str) -> None:
    """Each program sends a request and returns the answer."""
    if not (found := sys.executable if interpreter == "python3" else shutil.which(interpreter)):
        pytest.skip(f"{interpreter} is not installed")
    (folder / "bin").mkdir()
    for name in ("sh", interpreter):
        (folder / "bin" / name).symlink_to(found if name == interpreter else "/bin/sh")
    path = str(folder / "echo.sock")

    def answer(listening: socket.socket) -> None:
        with contextlib.suppress(TimeoutError), listening.accept()[0] as connection:
            connection.sendall(connection.recv(64)[::-1])

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        listening.settimeout(DEADLINE_S)
        thread = threading.Thread(target=answer, args=(listening,))
        thread.start()
        done = subprocess.run(
            ["sh", "-c", CONVERSE, "sh", path, "5", "5"], input=b"hello", capture_output=True, check=False,
            env={"PATH": str(folder / "bin")}, executable="/bin/sh",
        )  # fmt: skip
        thread.join()
    assert (done.returncode, done.stdout) == (0, b"olleh"), done.stderr
