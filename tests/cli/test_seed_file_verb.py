"""``drawwell seed-file`` with a daemon: one seed for each machine."""

import asyncio
import base64
import json
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from drawwell.crypto.receipts import verify_receipt
from drawwell.testing import sick
from support.daemon import PROGRAM, Daemon, command, hinted
from support.station import Site


@pytest.fixture
def site(folder: Path) -> Iterator[Site]:
    """Run a broker with recorded noise."""
    (folder / "noise").write_bytes(sick.good(3).read(2**20))
    source = f'[[source]]\nname = "noise"\ndriver = "replay"\npath = "{folder}/noise"\n'
    made = Site(folder, sticks=(), more=source)
    with daemon(made) as running:
        running.wait_for_text("healthy")
        yield made


def daemon(site: Site, log: str = "log") -> Daemon:
    return Daemon("broker", config=site.path, log=site.folder / log)


def seed(site: Site, *argv: str) -> subprocess.CompletedProcess[str]:
    return command("seed-file", *argv, "--wait", "5m", config=site.path)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_raw_seed_has_a_receipt(site: Site) -> None:
    """The seed has 512 bytes, mode 0600, and a receipt that verifies."""
    path = site.folder / "web07.seed"
    made = seed(site, "--for", "web07", "-o", str(path), "--json")
    document = json.loads(made.stdout)
    data, receipt = path.read_bytes(), Path(f"{path}.receipt").read_bytes()
    key = asyncio.run(site.ask("receipt-key"))["public_key"].encode()
    body = verify_receipt(receipt, key, data=data, hmac_key=Path(f"{path}.receipt.key").read_bytes())

    assert (made.returncode, len(data), mode(path)) == (0, 512, 0o600)
    assert (mode(Path(f"{path}.receipt")), mode(Path(f"{path}.receipt.key"))) == (0o600, 0o600)
    assert (body.serial, body.n_bytes, str(body.draw_class)) == (document["serial"], 512, "full")
    assert (document["machine"], document["file"]) == ("web07", str(path))


def test_second_seed_for_a_machine_is_refused_even_after_a_power_cut(folder: Path) -> None:
    """The broker remembers a seed without its files, and after a kill."""
    (folder / "noise").write_bytes(sick.good(3).read(2**20))
    site = Site(
        folder,
        sticks=(),
        more=f'[[source]]\nname = "noise"\ndriver = "replay"\npath = "{folder}/noise"\n',
    )
    path = folder / "seed"
    with daemon(site) as running:
        running.wait_for_text("healthy")
        assert seed(site, "--for", "web07", "-o", str(path)).returncode == 0
        first = path.read_bytes()
        running.kill()
    for each in folder.glob("seed*"):
        each.unlink()
    with daemon(site, "second") as running:
        running.wait_for_text("healthy")
        refused = seed(site, "--for", "web07", "-o", str(path))
        assert refused.returncode == 64
        assert "a seed for web07 was already written" in refused.stderr
        assert "--again" in hinted(refused)[0]
        assert list(folder.glob("seed*")) == []
        assert seed(site, "--for", "web08", "-o", str(folder / "other")).returncode == 0
        assert seed(site, "--for", "web07", "-o", str(path), "--again").returncode == 0
        assert len({first, path.read_bytes(), (folder / "other").read_bytes()}) == 3


def test_file_that_is_there_is_not_overwritten_and_nothing_is_remembered(site: Site) -> None:
    """An existing file is unchanged, and its machine can still get a seed."""
    path = site.folder / "seed"
    path.write_text("precious")
    refused = seed(site, "--for", "web07", "-o", str(path))

    assert refused.returncode == 64
    assert path.read_text() == "precious"
    assert not Path(f"{path}.receipt").exists()
    assert seed(site, "--for", "web07", "-o", str(site.folder / "new")).returncode == 0


def test_refused_draw_leaves_nothing_and_can_be_tried_again(folder: Path) -> None:
    """A refused draw creates no file; the machine can get its seed later."""
    source = f'[[source]]\nname = "noise"\ndriver = "replay"\npath = "{folder}/noise"\n'
    site = Site(folder, sticks=(), more=source)
    with daemon(site) as running:
        running.wait_for_text("cannot open")
        refused = command("seed-file", "--for", "web07", "-o", str(folder / "seed"), config=site.path)
        assert (refused.returncode, list(folder.glob("seed*"))) == (69, [])
        (folder / "noise").write_bytes(sick.good(3).read(2**20))
        running.wait_for_text("healthy")
        assert seed(site, "--for", "web07", "-o", str(folder / "seed")).returncode == 0


@pytest.mark.parametrize("name", ["", "-x", "a b", "../web07", "x" * 300])
def test_invalid_name_is_refused(site: Site, name: str) -> None:
    """A name that is empty, a path or too long creates no file."""
    made = seed(site, f"--for={name}", "-o", str(site.folder / "seed"))

    assert made.returncode == 64
    assert hinted(made)
    assert list(site.folder.glob("seed*")) == []


def test_cloud_config_is_what_cloud_init_reads(site: Site) -> None:
    """The cloud-config has a seed of 512 bytes and passes cloud-init's schema."""
    path = site.folder / "web07.user-data"
    assert seed(site, "--for", "web07", "--format", "cloud-init", "-o", str(path)).returncode == 0

    head, module, data, encoding, use = path.read_text().splitlines()
    assert (head, module, encoding) == ("#cloud-config", "random_seed:", "  encoding: base64")
    assert len(base64.b64decode(data.removeprefix("  data: "), validate=True)) == 512
    assert use.startswith("  command: [python3, -c, ")
    assert use.endswith('"0"]'), "recorded noise earns no credit"
    assert mode(path) == 0o600
    if shutil.which("cloud-init") and os.geteuid() == 0:
        checked = subprocess.run(
            ["cloud-init", "schema", "--config-file", path], capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert "Valid" in checked.stdout


def test_file_is_named_after_the_machine(site: Site) -> None:
    """Without -o the file is NAME.random-seed in the current directory."""
    made = subprocess.run(
        [*PROGRAM, "-c", str(site.path), "seed-file", "--for", "web07", "--wait", "5m"],
        cwd=site.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (made.returncode, made.stdout) == (0, "web07.random-seed\n")
    assert (site.folder / "web07.random-seed").stat().st_size == 512
