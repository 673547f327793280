"""A real systemd-nspawn mounts the broker's socket by its settings."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from drawwell.guests.nspawn import Nspawn
from drawwell.testing.waiting import wait_until
from lab.borrowed import drawwell, make_root, our_folders, system_folders
from support.daemon import command

NAME = f"box{os.getpid()}"
pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for containers"),
    pytest.mark.skipif(not shutil.which("systemd-nspawn"), reason="systemd-nspawn is not installed"),
]
PRIVATE = "--private-users=524288:65536"


@pytest.fixture
def broker(broker: Path) -> Path:
    """Run a broker with sockets that a container's root can reach."""
    (broker.parent / "run").chmod(0o711)
    return broker


@pytest.fixture
def settings() -> Iterator[Path]:
    """Return the settings file that nspawn reads for the container."""
    path = Path("/etc/systemd/nspawn") / f"{NAME}.nspawn"
    path.parent.mkdir(exist_ok=True)
    yield path
    path.unlink(missing_ok=True)


def guest(config: Path, verb: str, *options: str) -> dict:
    """Return ``drawwell guest`` as JSON."""
    done = command("guest", verb, "nspawn", NAME, *options, "--json", config=config)
    return {"status": done.returncode, **json.loads(done.stdout or done.stderr)}


@pytest.mark.parametrize("options", [(), (PRIVATE,)], ids=["the host's users", "private users"])
def test_a_container_draws_by_its_own_account(
    broker: Path, settings: Path, folder: Path, options: tuple[str, ...]
) -> None:
    """The container's root can draw; --remove restores the settings."""
    folders = system_folders() if options else [*system_folders(), *our_folders()]  # our files belong to root
    own = "[Files]\n" + "".join(f"BindReadOnly={each}\n" for each in folders)
    settings.write_text(own)
    applied = guest(broker, "apply", *(["--user", "524288"] if options else []))
    assert applied["status"] == 0, applied
    assert guest(broker, "apply", *(["--user", "524288"] if options else []))["changes"] == []
    root = make_root(folder / "root", 524288 if options else 0)
    (root / "usr").mkdir()
    (root / "etc/os-release").write_text("ID=test\n")
    nspawn = [
        "systemd-nspawn", "--quiet", f"--directory={root}", f"--machine={NAME}", "--register=no", "--keep-unit",
        "--private-network", "--console=pipe", *options,
    ]  # fmt: skip
    with subprocess.Popen([*nspawn, "sleep", "infinity"], stdin=subprocess.DEVNULL) as running:
        try:
            wait_until(
                lambda: running.poll() is not None or NAME in Nspawn()._leaders(), "the container runs"
            )
            verified = guest(broker, "verify")
            assert {each["verdict"] for each in verified["findings"]} == {"holds"}, verified
            if options:
                assert guest(broker, "apply")["changes"] == []  # its root is now found by its process
                return
            leader = Nspawn()._leaders()[NAME]
            enter = ["nsenter", f"--target={leader}", "--all", "--root", "--wdns=/"]
            drawn = subprocess.run(
                [*enter, *drawwell("draw", "16", "--hex")], capture_output=True, check=False
            )
            assert len(drawn.stdout.strip()) == 32, drawn
            asked = subprocess.run([*enter, *drawwell("doctor")], capture_output=True, text=True, check=False)
            assert "ready" in asked.stdout, asked
        finally:
            running.kill()
            assert guest(broker, "apply", "--remove")["status"] == 0
            assert settings.read_text() == own
