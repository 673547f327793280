"""Each file in examples/ works with a simulated stick."""

import json
import os
import re
from pathlib import Path

import pytest

from drawwell.testing.waiting import wait_until
from support.daemon import Daemon, StickThread, command
from support.documents import ROOT
from support.station import own_address

pytestmark = pytest.mark.slow

EXAMPLES = sorted((ROOT / "examples").glob("*.toml"))
SERVING = [path for path in EXAMPLES if path.stem != "consumer"]


def adapted(path: Path, folder: Path) -> str:
    """Return an example with this test's devices, addresses and paths."""
    address = own_address()
    changes = {
        'driver = "onerng"': f'driver = "onerng"\npath = "{folder}/stick"\nverify_firmware = "off"',
        '"/dev/hwrng"': '"/dev/urandom"\nallow_os_generator = true',
        "feed = true": "feed = false",
        '"*:55000"': f'"{address}:55000"',
        "127.0.0.1:": f"{address}:",
        '"well.example.org"': f'"{address}"',
        "/var/log/drawwell": str(folder),
    }
    text = path.read_text()
    for old, new in changes.items():
        text = text.replace(old, new)
    own = f'state_dir = "{folder}/state"\nrun_dir = "{folder}/run"\n'
    if "[broker]\n" in text:
        return text.replace("[broker]\n", f"[broker]\n{own}")
    return f"{text}\n[broker]\n{own}"


@pytest.mark.parametrize("example", SERVING, ids=lambda path: path.stem)
def test_an_example_serves(example: Path, folder: Path) -> None:
    """With its device present, the example's broker serves bytes."""
    config = folder / "drawwell.toml"
    config.write_text(adapted(example, folder))
    with StickThread(folder / "stick", rate=0), Daemon("run", config=config, log=folder / "log"):
        wait_until(
            lambda: command("status", "--require", "ready", config=config).returncode == 0, "it serves"
        )
        assert command("draw", "32", "--hex", config=config).returncode == 0


def test_a_consumer_draws_by_its_example(folder: Path) -> None:
    """After joining the broker of broker.toml, consumer.toml can draw."""
    well, web = folder / "well.toml", folder / "web.toml"
    well.write_text(adapted(ROOT / "examples" / "broker.toml", folder))
    with StickThread(folder / "stick", rate=0), Daemon("run", config=well, log=folder / "log"):
        wait_until(lambda: command("status", "--require", "ready", config=well).returncode == 0, "it serves")
        token = command("-q", "consumer", "invite", "web01", config=well).stdout
        state = f'[broker]\nstate_dir = "{folder}/web"\n'
        web.write_text(state)
        joined = command("--json", "join", "--name", "well.example.org", config=web, text=token)
        (address,) = json.loads(joined.stdout)["addresses"]
        text = (ROOT / "examples" / "consumer.toml").read_text()
        web.write_text(state + text.replace("well.example.org:55000", address))
        drawn = json.loads(command("--json", "draw", "8", config=web).stdout)
        assert drawn["from"] == address


@pytest.mark.parametrize("kind", ["host", "broker", "hwrng"])
def test_init_writes_what_the_example_has(kind: str, folder: Path) -> None:
    """`init` without a device writes the example's text, which is valid."""
    written = folder / "new.toml"
    done = command("init", kind, "-o", str(written), config=Path(os.devnull))
    assert done.returncode == 0, done.stderr
    assert done.stdout == written.read_text()

    def settings(text: str) -> set[str]:
        found = set(re.findall(r"^\[+\w+\]+|^\w+(?= =)", text, re.MULTILINE))
        return found - {"[kernel]", "feed"}  # where a kernel may be fed

    example = (ROOT / "examples" / f"{kind}.toml").read_text()
    if kind == "hwrng" or "onerng" in written.read_text():
        assert settings(written.read_text()) == settings(example)
    assert command("config", "check", str(written)).returncode == 0
    again = command("init", kind, "-o", str(written), config=Path(os.devnull))
    assert again.returncode
