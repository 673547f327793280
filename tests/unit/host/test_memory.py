"""Every command protects its memory first."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from drawwell.cli.parser import NOUNS
from drawwell.host import memory

ROOT = Path(__file__).parents[3]
LOOK = """
import ctypes, json, resource, sys
from drawwell.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print(json.dumps([ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE)]))
"""


@pytest.mark.parametrize("noun", NOUNS)
def test_no_command_can_be_dumped(noun: str) -> None:
    """PR_GET_DUMPABLE (prctl(2)) and both core limits are 0."""
    run = subprocess.run(
        [sys.executable, "-c", LOOK, noun, "--help"], capture_output=True, text=True, check=True
    )
    assert json.loads(run.stdout.splitlines()[-1]) == [0, [0, 0]]


def test_there_is_no_other_way_in() -> None:
    """The command and `python -m drawwell` call the same function."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"drawwell": "drawwell.__main__:main"}
    assert "from drawwell.cli import main" in (ROOT / "src" / "drawwell" / "__main__.py").read_text()


LOCK = """
import os, resource, sys
from drawwell.host import memory
if sys.argv[1] == "limited":
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (65_536, 65_536))
    if os.geteuid() == 0:
        os.setresuid(65534, 65534, 65534)
memory._swaps = lambda: True
print(memory.lock_memory())
kept = bytearray(1 << 20)
print(next(line for line in open("/proc/self/status") if line.startswith("VmLck")).split()[1])
"""


def locked(how: str) -> tuple[str, int]:
    """Return the result of `lock_memory` in a new process, and locked KiB."""
    run = subprocess.run([sys.executable, "-c", LOCK, how], capture_output=True, text=True, check=True)
    reason, kib = run.stdout.splitlines()
    return reason, int(kib)


def test_memory_is_locked_where_the_limit_allows() -> None:
    """Later allocations are then locked too; otherwise no memory is locked."""
    reason, kib = locked("as it is")
    assert (kib > 1024) is (reason == "")


def test_a_limit_is_reported_and_never_met() -> None:
    """No memory is locked, so the process can allocate more than the limit."""
    reason, kib = locked("limited")
    assert "LimitMEMLOCK" in reason
    assert kib == 0


def test_without_swap_nothing_is_reported(tmp_path: Path) -> None:
    """Without swap the table has only a heading; the units hide it."""
    table = tmp_path / "swaps"
    table.write_text("Filename\tType\tSize\tUsed\tPriority\n")
    assert not memory._swaps(str(table))
    table.write_text(table.read_text() + "/dev/sda2 partition 1 0 -2\n")
    assert memory._swaps(str(table))
    assert not memory._swaps(str(tmp_path / "none"))
