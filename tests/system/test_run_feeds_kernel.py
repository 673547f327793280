"""`drawwell run` feeds the running kernel, from hardware or simulated."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from drawwell.host.kernel import kernel_facts
from drawwell.testing.waiting import wait_until
from support.daemon import Daemon, StickThread, command, environment

HWRNG = "/dev/hwrng"
needs_root = pytest.mark.skipif(
    not kernel_facts().may_feed, reason="needs CAP_SYS_ADMIN in the first user namespace"
)
pytestmark = [pytest.mark.root, pytest.mark.slow, needs_root]


def gives_bytes(path: str) -> bool:
    """Return whether the device exists and has hardware behind it."""
    try:
        with open(path, "rb", buffering=0) as device:
            return bool(device.read(1))
    except OSError:
        return False


def configured(folder: Path, source: str) -> Path:
    path = folder / "drawwell.toml"
    path.write_text(
        f'[broker]\nstate_dir = "{folder}/state"\nrun_dir = "{folder}/run"\n'
        f"[kernel]\nfeed = true\ncredit = 8\n[[source]]\n{source}\n"
    )
    return path


def fed(config: Path, folder: Path) -> dict:
    """Run until the kernel was fed once; return the feeder's status."""
    report: dict = {}

    def look() -> bool:
        shown = command("status", "--json", config=config)
        report.update(json.loads(shown.stdout or "{}"))
        return any(sink["name"] == "kernel" and sink["deliveries"] for sink in report.get("sinks", ()))

    with Daemon("run", config=config, log=folder / "log") as daemon:
        wait_until(look, "the kernel was fed")
        assert daemon.stop() == 0
    return report


def test_this_kernel_is_fed_from_its_own_hardware(folder) -> None:
    """Noise of /dev/hwrng is fed with its credit, and one reseed."""
    if not gives_bytes(HWRNG):
        pytest.skip(f"no hardware behind {HWRNG}")
    report = fed(configured(folder, f'driver = "chardev"\npath = "{HWRNG}"\nmin_entropy = 1.0'), folder)

    kernel = next(sink for sink in report["sinks"] if sink["name"] == "kernel")
    consumer = next(each for each in report["consumers"] if each["name"] == "kernel")
    assert (kernel["delivered_bytes"], kernel["reseeds"], kernel["last_error"]) == (64, 1, "")
    assert kernel["credited_bits"] > 0
    assert (consumer["full_bytes"], consumer["drbg_bytes"]) == (64, 0)
    assert report["ledger"]["balanced"]
    assert not report["sources"][0]["identity"]["simulated"]


def test_a_simulated_stick_earns_no_credit(folder) -> None:
    """Simulated bytes are fed without credit, despite configured 8 bits."""
    source = f'driver = "onerng"\npath = "{folder}/stick"\nverify_firmware = "off"'
    with StickThread(folder / "stick", seed=1, rate=0):
        report = fed(configured(folder, source), folder)

    kernel = next(sink for sink in report["sinks"] if sink["name"] == "kernel")
    assert (kernel["delivered_bytes"], kernel["credited_bits"]) == (64, 0)


@pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv")
def test_without_the_right_it_ends_before_anything_is_drawn(folder) -> None:
    """Without CAP_SYS_ADMIN `drawwell run` exits with 77 at once."""
    config = configured(folder, f'driver = "onerng"\npath = "{folder}/stick"')
    run = subprocess.run(
        [
            "setpriv",
            "--bounding-set=-sys_admin",
            "--inh-caps=-sys_admin",
            sys.executable,
            "-m",
            "drawwell",
            "run",
        ],
        capture_output=True,
        text=True,
        check=False,
        env=environment(config),
    )
    assert run.returncode == 77
    assert "CAP_SYS_ADMIN" in run.stderr
    assert "drawwell: hint: " in run.stderr
    assert not os.path.exists(folder / "state")
