"""Kernel feeders with a kernel that requests bytes.

Each feeds a guest's real pool of 4,096 bits. Without a guest the tests are skipped.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.old_kernel import NoGuest, boot, guest_kernel, unpacked

HERE = Path(__file__).parent
GUEST = HERE / "old_kernel_guest.py"
STAND_IN = HERE.parent / "integration" / "kernel_stand_in.c"
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the library that counts feeds; skip without a guest."""
    if shutil.which("cc") is None:
        pytest.skip("cc is not installed")
    try:
        guest_kernel()
    except NoGuest as reason:
        pytest.skip(f"no guest: {reason}")
    library = tmp_path_factory.mktemp("stand-in") / "kernel.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, STAND_IN, "-ldl"], check=True)
    return str(library)


def seen(feeder: str, stand_in: str, program: str = "") -> list[dict[str, Any]]:
    """Return the guest's pool before, after the first and the second fill."""
    try:
        command = [str(unpacked(feeder) / "usr/sbin" / program)] if program else []
        steps = boot(str(GUEST), feeder, stand_in, *command)
    except NoGuest as reason:
        pytest.skip(f"no guest: {reason}")
    sys.stdout.writelines(f"{feeder}: {step}\n" for step in steps)
    assert [step["step"] for step in steps] == ["before", "fed", "fed again"], "see its output"
    assert {step["pool"] for step in steps} == {4096}
    assert steps[0]["avail"] < steps[0]["wakeup"]
    return steps


def assert_it_answers(steps: list[dict[str, Any]], most_bytes: int) -> None:
    """Check that it feeds on each request of the kernel, and stops."""
    _before, fed, again = steps
    assert all(step["wakeup"] <= step["avail"] < step["pool"] for step in (fed, again))
    assert 0 < fed["fed"] <= most_bytes
    assert fed["fed"] < again["fed"] <= 3 * most_bytes


def test_our_sink_fills_an_old_pool_and_again_when_it_is_drained(stand_in: str) -> None:
    """`[kernel] feed` feeds 64 credited bytes per request."""
    steps = seen("drawwell", stand_in)

    assert_it_answers(steps, 512)
    assert all(step["credit"] == 8 * step["fed"] and step["fed"] % 64 == 0 for step in steps)
    assert steps[-1]["wakeup"] == 896, "ours leaves the kernel's watermark alone"


def test_rngd_of_debian_fills_an_old_pool_without_its_interval(stand_in: str) -> None:
    """rngd of rng-tools-debian, interval off, feeds from our FIFO on request."""
    steps = seen("rng-tools-debian", stand_in, "rngd")

    assert_it_answers(steps, 2048)
    assert all(step["credit"] == 8 * step["fed"] for step in steps)


def test_rngd_5_fills_an_old_pool(stand_in: str) -> None:
    """rngd of rng-tools5 feeds an old kernel from our FIFO on request."""
    steps = seen("rng-tools5", stand_in, "rngd")

    assert_it_answers(steps, 2048)
    assert all(step["credit"] == 8 * step["fed"] for step in steps)


def test_ekeyd_fills_an_old_pool_over_egd(stand_in: str) -> None:
    """ekeyd-egd-linux feeds an old kernel from our EGD door on request."""
    steps = seen("ekeyd-egd-linux", stand_in, "ekeyd-egd-linux")

    assert_it_answers(steps, 1024)
    assert all(step["credit"] == 7 * step["fed"] for step in steps)
