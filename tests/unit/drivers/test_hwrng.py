"""The generator behind /dev/hwrng, in a fake sysfs."""

import asyncio
import os
from pathlib import Path

import pytest

from drawwell.drivers.chardev import CharDeviceSource
from drawwell.drivers.hwrng import GeneratorPin, generators
from drawwell.errors import SourceRejected, SourceUnavailable


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "class/misc/hw_random"
    made.mkdir(parents=True)
    (made / "rng_available").write_text("chaoskey-hw-1.0-3 tpm-rng-0 none\n")
    (made / "rng_current").write_text("chaoskey-hw-1.0-3\n")
    return made


@pytest.mark.parametrize("now", ["tpm-rng-0", "none", ""])
def test_a_generator_that_was_exchanged_is_noticed(folder: Path, tmp_path: Path, now: str) -> None:
    """If the kernel selects another generator or none, the check names both."""
    pin = GeneratorPin("/dev/hwrng", sysfs=str(tmp_path))
    pin.check()
    (folder / "rng_current").write_text(f"{now}\n")
    with pytest.raises(SourceUnavailable, match=f"changed from chaoskey-hw-1.0-3 to {now}"):
        pin.check()


def test_another_generator_than_the_wanted_one_is_refused(folder: Path, tmp_path: Path) -> None:
    """The hint has the command that selects the required one."""
    assert GeneratorPin("/dev/hwrng", "chaoskey", str(tmp_path)).generator == "chaoskey-hw-1.0-3"
    (folder / "rng_current").write_text("tpm-rng-0\n")
    with pytest.raises(SourceUnavailable, match='uses tpm-rng-0, but hwrng = "chaoskey"') as caught:
        GeneratorPin("/dev/hwrng", "chaoskey", str(tmp_path))
    assert "echo chaoskey-hw-1.0-3 > " in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("current", "vouched"), [("tpm-rng-0", True), ("virtio_rng.0", False), ("none", False), ("", False)]
)
def test_only_a_chip_vouches_for_its_bytes(
    folder: Path, tmp_path: Path, current: str, *, vouched: bool
) -> None:
    """Neither virtio, with the host's bytes, nor an unknown name is evidence."""
    (folder / "rng_current").write_text(current)
    assert generators(str(tmp_path)).vouched is vouched


@pytest.mark.parametrize("path", ["noise", "/dev/zero"])
def test_hwrng_is_refused_for_another_node(tmp_path: Path, path: str) -> None:
    """A path that is not the kernel's /dev/hwrng cannot name a generator."""
    os.mkfifo(tmp_path / "noise")
    source = CharDeviceSource("x", str(tmp_path / path), hwrng="tpm")
    with pytest.raises(SourceRejected, match='not the kernel\'s /dev/hwrng, but hwrng = "tpm"') as caught:
        asyncio.run(source.open())
    assert "remove hwrng" in str(caught.value.hint)
