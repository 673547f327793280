"""The OneRNG's terminal: access, settings, and the simulated device."""

import asyncio
import fcntl
import os
import subprocess
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from drawwell.drivers.onerng import OneRngSource
from drawwell.errors import SourceRejected, SourceUnavailable, UsageError
from drawwell.simulator.pty import PtyDevice
from drawwell.testing.waiting import until
from integration.pty_scene import play, refusal_of

LFLAG = 3
TIOCGEXCL = 0x80045440  # asm-generic/ioctls.h


@contextmanager
def sleeper_on(node: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program that has the node open without a lock."""
    with open(node, "rb", buffering=0) as file:
        sleeper = subprocess.Popen(["sleep", "60"], stdin=file)
    try:
        yield sleeper
    finally:
        sleeper.kill()
        sleeper.wait()


def test_a_second_opener_is_refused(tmp_path: Path) -> None:
    """A device has one source at a time; the next can open it afterwards."""

    async def scene(device: PtyDevice, source: OneRngSource) -> None:
        second = OneRngSource("second", str(device.link), verify="off")
        await source.open()
        assert "held open" in str(await refusal_of(second.open()))
        await source.aclose()
        await second.open()
        await second.aclose()

    play(tmp_path, scene)


def test_a_device_that_another_program_reads_is_refused_by_name(tmp_path: Path) -> None:
    """The error names another program that has the device open."""

    async def scene(device: PtyDevice, source: OneRngSource) -> None:
        with sleeper_on(device.node) as other:
            assert f"sleep (process {other.pid})" in str(await refusal_of(source.open()))
        source.attach()

    play(tmp_path, scene)


def test_a_full_pool_is_not_read(tmp_path: Path) -> None:
    """After a wait and a flush, samples are fresh and in order."""

    async def scene(_: PtyDevice, source: OneRngSource) -> None:
        await source.open()
        await source.read(4096)
        await asyncio.sleep(0.3)  # short: the fact is about time passing: the pool fills in 0.13 s
        samples = (await source.read(4096)).data
        assert samples == bytes((samples[0] + step) % 256 for step in range(len(samples)))

    play(tmp_path, scene, device={"rate": 57_000, "fault": "counter"}, verify="off")


def test_the_terminal_is_raw_without_echo_and_keeps_hupcl(tmp_path: Path) -> None:
    """Echo is disabled; HUPCL, and so DTR at close, is not changed."""

    def flags_of(node: str, change: int = 0) -> tuple[int, int]:
        fd = os.open(node, os.O_RDWR | os.O_NOCTTY)
        attributes = termios.tcgetattr(fd)
        if change:
            attributes[LFLAG] |= change
            attributes[2] |= termios.HUPCL
            termios.tcsetattr(fd, termios.TCSANOW, attributes)
        os.close(fd)
        return attributes[LFLAG], attributes[2]

    async def scene(device: PtyDevice, source: OneRngSource) -> None:
        flags_of(device.node, termios.ECHO | termios.ICANON | termios.ISIG)
        source.attach()
        source.detach()
        local, control = flags_of(device.node)
        assert local & (termios.ECHO | termios.ICANON | termios.ISIG) == 0
        assert control & termios.HUPCL
        assert control & termios.CLOCAL
        assert not control & termios.CRTSCTS

    play(tmp_path, scene)


def test_a_killed_reader_leaves_a_simulated_device_usable(tmp_path: Path) -> None:
    """TIOCEXCL is not set, because on a pseudo-terminal it would persist."""

    async def scene(device: PtyDevice, source: OneRngSource) -> None:
        source.attach()
        fd = os.open(device.node, os.O_RDWR | os.O_NOCTTY)
        exclusive = fcntl.ioctl(fd, TIOCGEXCL, bytes(4))
        os.close(fd)
        assert exclusive == bytes(4)

    play(tmp_path, scene)


def test_what_is_no_terminal_is_rejected(tmp_path: Path) -> None:
    """A regular file is not a device."""
    (tmp_path / "file").write_bytes(b"noise")
    with pytest.raises(SourceRejected, match="not a terminal"):
        OneRngSource("file", str(tmp_path / "file")).attach()


@pytest.mark.parametrize("arguments", [{"mode": "cmd4"}, {"mode": "fast"}, {"verify": "maybe"}])
def test_a_source_that_makes_no_sense_is_a_usage_error(arguments: dict[str, str]) -> None:
    """Mode and policy are checked before the device is opened."""
    with pytest.raises(UsageError):
        OneRngSource("stick", "/dev/null", **arguments)


def test_closing_pauses_the_device(tmp_path: Path) -> None:
    """A cleanly closed device sends nothing to the next opener."""

    async def scene(device: PtyDevice, source: OneRngSource) -> None:
        await source.open()
        await source.aclose()
        await until(lambda: not device._device.dtr, "the device sees that it was closed")
        assert device._device.paused
        fd = os.open(device.node, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        before = device.sent_bytes
        os.write(fd, b"cmdv")
        for _ in range(50):
            await asyncio.sleep(0)
        assert device.sent_bytes == before
        os.close(fd)

    play(tmp_path, scene)


def test_closing_twice_and_without_a_device_is_fine(tmp_path: Path) -> None:
    """aclose never raises."""

    async def scene(device: PtyDevice, source: OneRngSource) -> None:
        await source.aclose()
        await source.open()
        device.unplug()
        await source.aclose()
        await source.aclose()
        assert isinstance(await refusal_of(source.read(1)), SourceUnavailable)

    play(tmp_path, scene)


def test_no_sample_reaches_a_repr(tmp_path: Path) -> None:
    """The repr of a block or a source contains no samples."""

    async def scene(_: PtyDevice, source: OneRngSource) -> None:
        await source.open()
        assert repr(await source.read(64)) == "RawBlock()"

    play(tmp_path, scene, verify="off")


def test_the_link_replaces_nothing_but_an_old_link(tmp_path: Path) -> None:
    """A file at the link's path is refused; a stale link is replaced."""
    taken, stale = tmp_path / "taken", tmp_path / "stale"
    taken.write_bytes(b"mine")
    stale.symlink_to("/dev/pts/99999")

    async def run() -> None:
        with pytest.raises(UsageError, match="File exists"):
            async with PtyDevice(taken):
                pass
        async with PtyDevice(stale) as device:
            assert os.readlink(stale) == device.node

    asyncio.run(run())
    assert taken.read_bytes() == b"mine"
    assert not stale.is_symlink()


def test_an_unknown_fault_is_refused(tmp_path: Path) -> None:
    """The hint lists the faults."""
    with pytest.raises(UsageError) as caught:
        PtyDevice(tmp_path / "link", fault="tired")
    assert "bad-firmware" in str(caught.value.hint)
